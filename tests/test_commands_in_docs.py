"""Every command line that the docs show has a command and flags that the program knows."""

import argparse
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference")]
PROGRAMS = ("profiler-agent", "lut-server", "search")


def load_reference():
    """The hook that makes the reference pages: it knows the parsers."""
    spec = importlib.util.spec_from_file_location("build_reference", ROOT / "docs" / "build_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flags():
    """The flags of each command: `{"search pick": {"--run", …}}`; the search itself is `search run`."""
    reference = load_reference()
    return {
        "search run" if parser.prog == "search" else parser.prog: {
            option for action in parser._actions for option in action.option_strings
        }
        | {"--help", "--version", "--print-completion"}
        for program in PROGRAMS
        for parser in reference.parsers(program)
        if isinstance(parser, argparse.ArgumentParser)
    }


def shown_commands(page):
    """Command lines of code blocks and of `code`, without what a shell does with them."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    blocks += ["\n".join(re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE))]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        for part in re.split(r"\s#|&&|\||;|\s{3,}|\$\(", line.removeprefix("$ ").strip()):
            words = part.strip().strip("()").removeprefix("LUTNAS_CA_FILE=ca.pem ").split()
            if words and words[0] in PROGRAMS and len(words) > 1 and words[1] != "listening":
                yield words


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_and_flags_exist(page, flags):
    for words in shown_commands(page):
        command = next(
            (" ".join(words[:size]) for size in (3, 2) if " ".join(words[:size]) in flags),
            "search run" if words[0] == "search" and words[1].startswith("-") else None,
        )
        if command is None:  # a group of commands (`lut-server jobs`), or the program alone
            assert any(known.startswith(" ".join(words[:2])) for known in flags) or words[1].startswith("-"), words
            continue
        given = {word.partition("=")[0].rstrip(".,)") for word in words if re.match(r"--[a-z]", word)}
        assert given <= flags[command], (words, given - flags[command])


def test_docs_show_all_three_programs():
    shown = {words[0] for page in PAGES for words in shown_commands(page)}
    assert shown == set(PROGRAMS)


def test_a_flag_that_does_not_exist_is_found(flags, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("    search pick --run runs/rpi4 --max-latency-s 12\n", encoding="utf-8")
    ((*words,),) = shown_commands(page)
    assert {word for word in words if word.startswith("--")} - flags["search pick"] == {"--max-latency-s"}
