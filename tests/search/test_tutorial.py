"""The code of docs/tutorials/training-code.md and table.ipynb runs as it stands there."""

import dataclasses
import json
import re
from pathlib import Path

import torch

from shared.tables.held_out_error import HeldOutError
from shared.tables.table import NetworkCheck

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "training-code.md"
NOTEBOOK = PAGE.with_name("table.ipynb")
HELD_OUT = HeldOutError(
    networks=40,
    mape_percent=1.5,
    within_5_percent=100.0,
    within_10_percent=100.0,
    kendall_tau=0.97,
    bound_coverage=95.0,
    bound_half_width_percent=3.0,
)


def test_the_blocks_of_the_page_run_one_after_the_other(serve, table, capsys):
    server = serve(dataclasses.replace(table, device="rpi4", held_out=HELD_OUT))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 6
    assert blocks[3].count("\n") <= 60
    assert blocks[4].count("\n") <= 40
    torch.manual_seed(0)
    names = {}
    exec("\n".join(blocks).replace("http://127.0.0.1:8700", server.url), names)
    out = capsys.readouterr().out
    assert "off by 1.5 %" in out
    assert names["alpha"].grad.abs().sum() > 0
    assert names["alpha"].abs().sum() > 0
    assert 1 <= len(names["study"].best_trials) < len(names["study"].trials)
    assert names["bounds_ms"].min() >= names["prediction"].upper_ms(0.99) - 1e-9


def test_the_cells_of_the_notebook_run_and_draw(serve, table):
    checks = tuple(NetworkCheck("n", role, 1.0, 1.1, 1.2) for role in ("calibration", "held_out", "held_out"))
    server = serve(dataclasses.replace(table, device="rpi4", networks=checks))
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    names = {}
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    exec(code.replace("http://127.0.0.1:8700", server.url), names)
    assert len(names["dearest"]) == 12
    assert [len(drawn.x) for drawn in names["figure"].data] == [1, 2, 2]
    assert names["bounds_ms"].min() > 0
