import io
from itertools import accumulate

import pytest
from rich.console import Console

from search.process.progress import BarProgress, make_progress
from search.training.precision import choose_precision, has_bf16


def clock_of(durations_s: list[float]):
    """A clock that is read at the beginning and the end of each duration."""
    ends = list(accumulate(durations_s))
    readings = iter([reading for begin, end in zip([0.0, *ends], ends, strict=False) for reading in (begin, end)])
    return lambda: next(readings)


@pytest.mark.parametrize(("bf16_s", "chosen"), [(0.5, "bf16"), (0.95, "fp32"), (1.5, "fp32")])
def test_bfloat16_is_chosen_where_it_saves_a_tenth_of_the_time(space, tmp_path, bf16_s, chosen):
    cpuinfo, lines = tmp_path / "cpuinfo", []
    cpuinfo.write_text("flags : fpu avx512f avx512_bf16\n")
    clock = clock_of([9.0, 9.0, 1.0, 1.2, bf16_s, bf16_s])
    assert choose_precision(space, 8, 2, lines.append, cpuinfo, clock) == chosen
    assert len(lines) == 1
    assert chosen in lines[0]


def test_a_cpu_without_bfloat16_instructions_is_not_even_measured(space, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx2\n")
    assert choose_precision(space, 8, 2, pytest.fail, cpuinfo) == "fp32"
    assert not has_bf16(tmp_path / "missing")


def test_a_terminal_gets_bars_and_anything_else_lines():
    written = io.StringIO()
    terminal = make_progress(Console(file=written, force_terminal=True, width=120))
    assert isinstance(terminal, BarProgress)
    with terminal.phase("search", 2) as phase:
        phase.advance(1, loss=0.25)
        phase.advance(1)
    terminal.line("[not markup]")
    assert "2/2" in written.getvalue()
    assert "[not markup]" in written.getvalue()
    plain = io.StringIO()
    progress = make_progress(Console(file=plain, width=40))
    assert not isinstance(progress, BarProgress)
    progress.line("a line that is longer than the forty characters of this console")
    assert plain.getvalue().count("\n") == 1
