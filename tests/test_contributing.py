"""CONTRIBUTING.md sends nobody to a file that does not exist, and its commands are those of the Makefile."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## To change X, go to Y")[2].partition("\n## ")[0].splitlines()
    if line.startswith("|")
][2:]


def test_table_says_where_to_go_for_at_least_twenty_things():
    assert len(ROWS) >= 20
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_every_path_of_the_table_exists():
    paths = [path for row in ROWS for cell in row[1:] for path in re.findall(r"`([^`]+)`", cell) if path != "make docs"]
    assert len(paths) >= 2 * len(ROWS)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_target_of_make_is_in_the_list_of_commands():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)`", PAGE)) | {"install"}
    assert targets - {"help", "clean"} <= named
    assert named <= targets
