"""README.md, CONTRIBUTING.md, CHANGELOG.md and docs/: lines of at most 100 columns, links that lead somewhere."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WIDTH = 100
GENERATED = {"docs/reference/profiler-agent.md", "docs/reference/lut-server.md", "docs/reference/search.md"} | {
    "docs/reference/http.md",
    "docs/reference/openapi.json",
}
"""Made by docs/build_reference.py when the site is built."""


def prose(page):
    """Lines outside tables and code, each with its number."""
    fenced, before = False, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("|"):
            indented_code = line.startswith("    ") and not before.strip()
            if indented_code:
                continue
            yield number, line
        before = line if line.strip() and not line.startswith("    ") else ""


def slug(heading):
    """The anchor that GitHub and mkdocs give a heading."""
    return re.sub(r"[^\w -]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


def anchors(page):
    return {slug(line.lstrip("#")) for _, line in prose(page) if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_line_is_wider_than_100_columns(page):
    wide = [number for number, line in prose(page) if len(re.sub(r"https?://\S+", "", line)) > WIDTH]
    assert wide == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text)
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if str(target.relative_to(ROOT)) in GENERATED:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_has_at_most_120_lines_of_at_most_100_columns():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > WIDTH] == []


def test_pictures_are_small_and_load_nothing_from_elsewhere():
    pictures = [path for path in (ROOT / "docs" / "images").iterdir() if path.suffix in (".svg", ".png")]
    assert len(pictures) >= 6
    for path in pictures:
        assert path.stat().st_size < (200_000 if path.suffix == ".svg" else 250_000), path.name
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            assert "prefers-color-scheme" in text, path.name
            assert not re.search(r"(?:href|src)=\"https?:", text), path.name


def test_every_figure_has_a_script_that_says_how_to_make_it_anew():
    drawn = {path.stem for path in (ROOT / "docs" / "images").glob("*.svg")} - {"loop"}
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "figures").glob("*.py")}
    assert drawn == set(scripts) - {"figure", "screenshots"}
    for name in drawn:
        assert f"python docs/figures/{name}.py" in scripts[name].partition('"""\n\n')[0]


@pytest.mark.parametrize("name", ["by_hand", "curves", "kernels", "strategies", "way_of_a_pick", "way_of_a_round"])
def test_a_figure_of_what_is_recorded_is_as_its_script_draws_it(name, tmp_path):
    pytest.importorskip("matplotlib", reason="`make docs` installs it")
    if name == "kernels" and platform.machine() != "x86_64":
        pytest.skip("ONNX Runtime executes other kernels here")
    code = "import figure, pathlib, runpy, sys; figure.IMAGES = pathlib.Path(sys.argv[2]); "
    code += "runpy.run_path(sys.argv[1], run_name='__main__')"
    command = [sys.executable, "-c", code, str(ROOT / "docs" / "figures" / f"{name}.py"), str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "docs" / "figures", env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    recorded = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8") == recorded


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "results.md"], ids=lambda page: page.name)
def test_every_module_that_is_named_exists(page):
    names = re.findall(r"`((?:search|shared|lut_server|profiler_agent)(?:\.\w+)+)`", page.read_text(encoding="utf-8"))
    for name in names:
        places = [ROOT.joinpath(*name.split(".")), ROOT.joinpath(*name.split(".")[:-1])]  # a module, or what it defines
        assert any(place.is_dir() or place.with_suffix(".py").is_file() for place in places), name


def test_every_file_on_a_drawn_way_exists():
    for script in (ROOT / "docs" / "figures").glob("way_of_*.py"):
        stations = re.findall(r'^    \("([^"]+)", "', script.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(stations) >= 8
        assert [path for path in stations if not (ROOT / path).is_file()] == []
        drawn = (ROOT / "docs" / "images" / f"{script.stem}.svg").read_text(encoding="utf-8")
        assert [path for path in stations if path not in drawn] == []


def test_no_page_is_left_out_of_the_site_or_named_in_vain():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = {f"docs/{path}" for path in re.findall(r"[\w/.-]+\.md", navigation)}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "docs"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert named - GENERATED == {path for path in tracked if path.endswith(".md")}
