import dataclasses
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import COMPOSED, REGISTRY, DataMissing, report
from benchmarks import __main__ as benchmarks_main
from benchmarks.__main__ import PAGE, RESULTS, main, run_into_page
from benchmarks.report import Figure, Report, ReportError
from benchmarks.stack import StackError, climb

FIGURES = {
    "kettle.seconds": Figure(value=181.25, unit="s", n=5, spread=2.5, bar="<= 200"),
    "kettle.share_boiled": Figure(value=0.75, n=4, spread="0.5 to 1", bar=">= 0.9"),
    "kettle.watts": Figure(value=2150.4, unit="W"),
}
REPORT = Report(
    benchmark="kettle",
    date="2026-01-31T12:00:00+00:00",
    commit="1a2b3c4d5e6f",
    hardware="a kettle, 1 core",
    python="3.11.7",
    onnxruntime="1.31.1",
    figures=FIGURES,
)
PAGE_WITH_MARKERS = "# Results\n\n<!-- benchmark:kettle -->\nold\n<!-- /benchmark:kettle -->\n\nAfter.\n"


@pytest.fixture
def kettle(monkeypatch):
    """A registered benchmark that takes no time."""

    def run(progress):
        progress("boiling")
        return FIGURES

    module = types.ModuleType("kettle_benchmark")
    module.run = run
    monkeypatch.setitem(sys.modules, "kettle_benchmark", module)
    monkeypatch.setitem(REGISTRY, "kettle", "kettle_benchmark:run")


def test_json_form_leaves_out_what_is_unknown_and_reads_back_equal():
    fields = json.loads(report.to_json(REPORT))
    assert fields["figures"]["kettle.seconds"] == {"value": 181.25, "unit": "s", "n": 5, "spread": 2.5, "bar": "<= 200"}
    assert fields["figures"]["kettle.watts"] == {"value": 2150.4, "unit": "W"}
    assert "torch" not in fields
    assert report.from_json(report.to_json(REPORT)) == REPORT


def test_table_says_circumstances_n_spread_bar_and_whether_it_was_reached():
    assert report.render(REPORT).splitlines() == [
        "2026-01-31T12:00:00+00:00, commit `1a2b3c4d5e6f`, a kettle, 1 core;",
        "Python 3.11.7, ONNX Runtime 1.31.1.",
        "",
        "| figure | value | n | spread | bar | reached |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `kettle.seconds` | 181.2 s | 5 | 2.5 | <= 200 | yes |",
        "| `kettle.share_boiled` | 0.75 | 4 | 0.5 to 1 | >= 0.9 | **no** |",
        "| `kettle.watts` | 2,150 W |  |  |  |  |",
    ]


def test_table_names_torch_where_it_was_installed():
    assert "torch 2.13.0." in report.render(dataclasses.replace(REPORT, torch="2.13.0"))


def test_replacing_a_table_keeps_the_rest_and_is_idempotent():
    once = report.replace_table(PAGE_WITH_MARKERS, REPORT)
    assert once.startswith("# Results\n\n<!-- benchmark:kettle -->\n\n2026")
    assert once.endswith("|\n\n<!-- /benchmark:kettle -->\n\nAfter.\n")
    assert "old" not in once
    assert report.replace_table(once, REPORT) == once


def test_page_without_the_markers_is_an_error_that_names_them():
    with pytest.raises(ReportError, match="<!-- benchmark:kettle --> and <!-- /benchmark:kettle -->"):
        report.replace_table("# Results\n", REPORT)


@pytest.mark.parametrize(
    ("value", "bar", "reached"),
    [(3, "<= 3", True), (3.1, "<=3", False), (0.9, ">= .90", True), (0.89, ">= 0.9", False), (1, None, None)],
)
def test_bar_is_reached_at_its_limit_and_beyond(value, bar, reached):
    assert Figure(value=value, bar=bar).reached is reached


@pytest.mark.parametrize("bar", ["3", "< 3", "<= three", ">=", ""])
def test_bar_in_another_form_is_refused(bar):
    with pytest.raises(ReportError, match="a bar reads"):
        Figure(value=1, bar=bar)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figure_that_is_no_number_is_refused(value):
    with pytest.raises(ReportError, match="finite"):
        Figure(value=value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"figures": {"a": {"value": 1}}}', '{"figures": {"a": {"x": 1}}}'])
def test_file_in_another_form_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "kettle.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"kettle\.json: not a benchmark's result"):
        report.read(path)


def test_report_of_this_machine_names_what_the_figures_depend_on():
    begun = report.describe_commit()
    here = report.measured_here("kettle", FIGURES, begun)
    assert here.commit == begun
    assert here.date.endswith("+00:00")
    assert here.python == ".".join(map(str, sys.version_info[:3]))
    assert "core" in here.hardware
    assert here.commit
    assert here.figures == FIGURES


def test_a_commit_that_came_while_it_was_measured_is_not_named_but_marked():
    assert report.measured_here("kettle", FIGURES, "0123456789ab").commit == "0123456789ab+"


def test_all_goes_on_after_a_failure_and_fails_but_not_for_data_that_is_missing(monkeypatch, capsys):
    problems = {"first": StackError("ladder failed"), "second": DataMissing("no truth"), "third": None}
    begun = []

    def run_one(name, results, page):
        begun.append(name)
        if problems[name]:
            raise problems[name]

    monkeypatch.setattr(benchmarks_main, "run_into_page", run_one)
    monkeypatch.setattr(benchmarks_main, "REGISTRY", problems)
    assert main(["all"]) == 1
    assert begun == list(problems)
    assert capsys.readouterr().err == "first: failed: ladder failed\nsecond: left out: no truth\n"
    del problems["first"]
    assert main(["all"]) == 0


def test_a_missed_budget_is_a_figure_and_another_failure_of_the_ladder_is_none(tmp_path):
    def failing(*arguments):
        raise StackError("`search ladder` failed with exit code 1")

    stack = SimpleNamespace(search=failing)
    with pytest.raises(StackError):
        climb(stack, tmp_path)
    (tmp_path / "ladder.json").write_text('[{"met": true}]')
    with pytest.raises(StackError):
        climb(stack, tmp_path)
    (tmp_path / "ladder.json").write_text('[{"met": true}, {"met": false}]')
    assert [rung["met"] for rung in climb(stack, tmp_path)] == [True, False]


@pytest.mark.usefixtures("kettle")
def test_a_benchmark_writes_its_file_and_prints_its_table(tmp_path, capsys):
    path = tmp_path / "new" / "kettle.json"
    assert main(["kettle", "--json", str(path)]) == 0
    assert report.read(path).figures == FIGURES
    printed = capsys.readouterr()
    assert "| `kettle.seconds` | 181.2 s |" in printed.out
    assert printed.err == "kettle: boiling\n"


@pytest.mark.usefixtures("kettle")
def test_benchmark_of_all_leaves_its_file_and_its_table(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(PAGE_WITH_MARKERS)
    run_into_page("kettle", tmp_path / "results", page)
    assert report.read(tmp_path / "results" / "kettle.json").figures == FIGURES
    assert "| `kettle.watts` | 2,150 W |" in page.read_text()


@pytest.mark.parametrize("arguments", [[], ["teapot"], ["all", "--json", "x.json"]])
def test_wrong_use_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m benchmarks" in capsys.readouterr().err


@pytest.mark.parametrize("name", REGISTRY)
def test_results_page_has_a_place_for_every_benchmark(name):
    assert report.replace_table(Path(PAGE).read_text(encoding="utf-8"), dataclasses.replace(REPORT, benchmark=name))


@pytest.mark.parametrize("place", REGISTRY.values())
def test_every_registered_benchmark_is_a_function_of_its_module(place):
    module, _, function = place.partition(":")
    source = Path(PAGE).parents[1].joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert f"\ndef {function}(progress" in source


@pytest.mark.parametrize("parts", COMPOSED.values())
def test_parts_of_a_composed_benchmark_are_registered(parts):
    assert set(parts) <= set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_table_of_the_page_is_that_of_the_recorded_result(name):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{name} was not recorded yet")
    page = PAGE.read_text(encoding="utf-8")
    assert report.replace_table(page, report.read(path)) == page
