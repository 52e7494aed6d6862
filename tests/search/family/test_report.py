import dataclasses
import re
from html.parser import HTMLParser
from importlib.metadata import version

import pytest

from search.deploy.ladder import Attempt, Rung, in_ms, write_ladder
from search.deploy.upload_result import make_result
from search.family.family import load_family
from search.report import build_report
from search.report.cells import cell_svg
from search.report.charts import choices_by_budget
from search.runs.environment import record_environment
from search.runs.run_directory import RunDirectory, on_device
from shared.wire import canonical_json

VOID = {"meta", "link", "br", "img", "hr", "input"}
LOADING = {"src", "href", "data", "srcset", "poster", "action"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps text, tags and what would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.text, self.rows = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in LOADING]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text.append(data)
        if self.rows and "tr" in self.open:
            self.rows[-1].append(data)


@pytest.mark.parametrize("path", ["/home/me/secret/pets", r"C:\Users\secret\pets", "/home/me/secret/pets/"])
def test_posted_search_and_title_name_a_folder_of_images_without_its_path(run, path):
    vars(run)["config"] = dataclasses.replace(run.config, dataset=f"folder:{path}")
    result = make_result(run)
    assert result.dataset == "folder:pets"
    assert b"secret" not in canonical_json(result)
    assert "<title>lutnas: folder:pets on testbed</title>" in build_report(run)


def make_rung(member, met=True, onnx="models/member-01.onnx"):
    verdict = (member.upper_ms * 0.95, 0.9, 1.0, 1.05, 1.02, met, True, ())
    attempt = Attempt(
        *verdict, genotype=member.genotype, step="final", predicted_ms=member.predicted_ms, upper_ms=member.upper_ms
    )
    return Rung(
        target_ms=member.upper_ms,
        predicted_ms=member.predicted_ms,
        upper_ms=member.upper_ms,
        measured_ms=attempt.measured_ms,
        met=met,
        genotype=member.genotype,
        accuracy=81.25,
        accuracy_kind="inherited from the supernet, tuned for 1 epoch",
        onnx=onnx,
        raw_ms=1.05,
        canary_drift=1.02,
        parameters=member.parameters,
        attempts=(attempt,),
    )


@pytest.fixture
def rungs(run):
    members = load_family(run).members
    rungs = [make_rung(members[0]), make_rung(members[3], met=False), make_rung(members[-1])]
    write_ladder(run.path / "ladder.json", rungs, run.space)
    return rungs


def test_page_has_every_rung_with_its_verdict(run, rungs):
    page = Page(build_report(run))
    assert page.open == []
    ladder = [row for row in page.rows if "81.25 %" in row]
    assert len(ladder) == 3
    for row, rung in zip(ladder, rungs, strict=True):
        wanted = [in_ms(value) for value in (rung.target_ms, rung.predicted_ms, rung.upper_ms, rung.measured_ms)]
        assert row[:4] == wanted
        assert row[4] == ("yes" if rung.met else "no")
    assert "2 of 3" in page.text
    assert "Weights of all: inherited from the supernet, tuned for 1 epoch." in " ".join(page.text)


def test_page_says_of_each_rung_how_its_weights_came_about_where_they_differ(run, rungs):
    rungs[1] = dataclasses.replace(rungs[1], accuracy_kind="not tuned yet")
    write_ladder(run.path / "ladder.json", rungs, run.space)
    page = Page(build_report(run))
    assert [row[-1] for row in page.rows if "81.25 %" in row] == [rung.accuracy_kind for rung in rungs]
    assert "Weights of all" not in " ".join(page.text)


@pytest.mark.parametrize(
    ("value_ms", "text"), [(0.02604, "0.0260"), (0.99994, "0.9999"), (1.0, "1.000"), (61.5, "61.500")]
)
def test_tables_show_short_latencies_to_a_tenth_of_a_microsecond(value_ms, text):
    assert in_ms(value_ms) == text


def test_page_loads_nothing_and_carries_plotly_once(run, rungs):
    text = build_report(run)
    page = Page(text)
    assert page.loads == []
    assert not {"link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert not re.search(r"@import|url\(", text.partition("<style>")[2].partition("</style>")[0])
    assert text.count("Plotly.newPlot(") - text.partition("</head>")[0].count("Plotly.newPlot(") == 4
    assert text.count("plotly.js v") == 1


def test_every_member_is_drawn_without_its_dead_edges(run, rungs):
    page = Page(build_report(run))
    family = load_family(run)
    assert page.tags.count("svg") == len(family.members)
    space = run.table.parsed_space
    svg = cell_svg(space, space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"))
    assert svg.count("<path") == 1
    assert "skip" in svg
    assert "conv 3" not in svg
    full = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    )
    assert cell_svg(space, full).count("<path") == 6
    assert cell_svg(space, full).count("<circle") == 4


def test_page_names_table_error_hashes_seed_versions_and_durations(run, rungs):
    record_environment(run.path, 0)
    text = " ".join(Page(build_report(run)).text)
    assert "1.90 %" in text
    assert "0.950" in text
    assert run.table.hash in text
    assert run.config.data_fingerprint in text
    assert "warm-up, seconds" in text
    assert "onnxruntime" in text


def test_members_whose_bounds_look_the_same_have_a_bar_each(run):
    family = load_family(run)
    members = (family.members[0], family.members[0], family.members[-1])
    drawn = choices_by_budget(dataclasses.replace(family, members=members), run.space)
    places, names = (re.search(pattern, drawn).group(1) for pattern in (r'"x":\[(.*?)\]', r'"ticktext":\[(.*?)\]'))
    assert len(set(places.split(","))) == 3
    assert names.split(",") == [f'"{member.upper_ms:.3g}"' for member in members]


def test_run_without_a_ladder_has_a_report_too(run):
    page = Page(build_report(run))
    assert any("search ladder" in text for text in page.text)


def test_values_from_outside_are_escaped(run, rungs):
    hostile = "</script><script>alert(1)</script><b>"
    write_ladder(
        run.path / "ladder.json", [dataclasses.replace(rungs[0], accuracy_kind=hostile, onnx=hostile)], run.space
    )
    text = build_report(on_device(RunDirectory.open(run.path)))
    assert "<script>alert(1)" not in text
    assert Page(text).open == []


def test_report_of_the_same_run_is_the_same_page(run, rungs):
    assert build_report(run) == build_report(on_device(RunDirectory.open(run.path)))


def test_page_says_with_which_versions_the_search_was_started_each_time(run):
    assert "from step" not in build_report(run)
    record_environment(run.path, 0)
    path = run.path / "environment.json"
    path.write_text(path.read_text().replace(version("torch"), "1.0"))
    record_environment(run.path, 7, processes=2)
    rows = {row[0]: row[1] for row in Page(build_report(run)).rows if row and row[0].startswith("from step")}
    assert "torch 1.0" in rows["from step 0 on"]
    assert f"torch {version('torch')}" in rows["from step 7 on"]
    assert rows["from step 7 on"].endswith("processes: 2")
