"""One shape of command line for all three programs."""

import argparse
import io
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import lut_server.cli
import profiler_agent.cli
import search.cli
from profiler_agent.timing.stopping import PRESETS as AGENT_PRESETS
from search.config import PRESETS as SEARCH_PRESETS
from shared import command_line
from shared.command_line import MOST_COLUMNS, find_access, run_program
from shared.errors import LutnasError

PROGRAMS = {"profiler-agent": profiler_agent.cli, "lut-server": lut_server.cli, "search": search.cli}


def walk(parser):
    """The parser and those of all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from walk(command)


ALL = [(name, parser) for name, module in PROGRAMS.items() for parser in walk(module.parser())]
every_parser = pytest.mark.parametrize(("name", "parser"), ALL, ids=[parser.prog for _, parser in ALL])
every_program = pytest.mark.parametrize("name", PROGRAMS)


@pytest.fixture(params=[True, False], ids=["coloured", "plain"])
def look(request, monkeypatch):
    """Help with rich-argparse, and as a device shows it that has only the agent's packages."""
    monkeypatch.setenv("COLUMNS", "300")
    if not request.param:
        monkeypatch.setitem(sys.modules, "rich_argparse", None)


@every_program
def test_help_lists_every_command(name, look, capsys):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name].main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    known = next(
        action for action in PROGRAMS[name].parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    for command in known.choices:
        assert re.search(rf"^    {command} ", shown, re.MULTILINE), command


def test_help_of_the_search_shows_its_own_usage_and_says_each_command_as_the_command_itself_does():
    assert "usage: search --device NAME --lut-url URL" in search.cli.parser(()).format_help()
    unloaded, loaded = (parser._subparsers._group_actions[0]._choices_actions for parser in (
        search.cli.parser(()), search.cli.parser()))  # fmt: skip
    shown, true = ([(command.dest, command.help) for command in commands] for commands in (unloaded, loaded))
    assert shown == true


@every_parser
def test_help_starts_with_what_the_command_does_and_an_example_and_is_narrow(name, parser, look):
    lines = parser.format_help().splitlines()
    assert re.fullmatch(r"[A-Z].*\.", lines[0])
    assert lines[1] == ""
    assert lines[2].startswith(f"    {name} ")
    assert max(map(len, lines)) <= MOST_COLUMNS
    assert not [line for line in lines if ":8000" in line]


@every_parser
def test_example_is_a_command_line_that_the_program_takes(name, parser):
    words = shlex.split(parser.description.splitlines()[2])
    assert words[0] == name
    program = PROGRAMS[name].parser()
    if words[1].startswith("-"):
        words.insert(1, "run")
    assert callable(program.parse_args(words[1:]).command)
    assert " ".join(words).startswith(parser.prog)


def test_a_flag_means_the_same_in_all_programs():
    meanings = {}
    for _, parser in ALL:
        flags = {flag: action for action in parser._actions for flag in action.option_strings}
        assert ("--lut-url" in flags) == ("--token" in flags), parser.prog
        for flag in ("--lut-url", "--server", "--token", "--token-file", "--ca-file", "--json", "--version"):
            if flag in flags:
                action = flags[flag]
                meanings.setdefault(flag, set()).add((action.dest, action.metavar, action.nargs, str(action.type)))
    assert {flag for flag, found in meanings.items() if len(found) > 1} == set()
    assert set(meanings) >= {"--lut-url", "--server", "--token", "--token-file", "--ca-file"}


def test_presets_of_both_programs_are_of_one_vocabulary_from_short_to_long():
    assert list(AGENT_PRESETS) == ["smoke", "quick", "standard", "thorough"]
    assert list(SEARCH_PRESETS) == list(AGENT_PRESETS)[: len(SEARCH_PRESETS)]


@every_program
def test_version_has_the_same_form(name, capsys):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name].main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(rf"{name} \d+\.\d+\.\d+\n", capsys.readouterr().out)


@every_program
@pytest.mark.parametrize("words", [["fly"], ["--fly"], ["predict", "--fly"], ["report", "--fly"]])
def test_wrong_use_exits_with_2_in_one_line(name, words, capsys):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name].main(words)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"{name}.*: .*; see {name}.* --help\n", said.err)


def parser_that(run):
    parser, commands = command_line.make_parser("program", "Do a thing.\n\n    program go")
    command_line.add_command(commands, "go", run, "Do it.\n\n    program go")
    return lambda: parser


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_name_that_the_terminal_cannot_show_is_shown_escaped(encoding, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    assert run_program("program", parser_that(lambda _: print("сеть \udcff") or Console().print("сеть")), ["go"]) == 0
    shown.flush()
    assert shown.buffer.getvalue().startswith(rb"\u0441\u0435\u0442\u044c \udcff")


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("--print-completion", "bash")])
def test_output_on_a_full_disk_is_an_error_in_a_line(words):
    program = [sys.executable, "-m", "lut_server.cli", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "lut-server: the output: No space left on device\n")


def test_file_that_nobody_foresaw_is_named_in_a_line(capsys, tmp_path):
    assert run_program("program", parser_that(lambda _: (tmp_path / "no" / "file").read_text()), ["go"]) == 1
    assert capsys.readouterr().err == f"program: {tmp_path / 'no' / 'file'}: No such file or directory\n"


def test_error_is_a_line_whatever_strangers_put_into_it(capsys):
    def fail(_):
        raise LutnasError("the sky\nfell \x1b[2J")

    assert run_program("program", parser_that(fail), ["go"]) == 1
    assert capsys.readouterr().err == "program: the sky fell \\x1b[2J\n"


@pytest.mark.parametrize("given", [{"token": "lut_x\n"}, {"environment": {"LUTNAS_TOKEN": " lut_x\r\n"}}])
def test_token_with_a_line_break_at_its_end_is_the_token(given):
    assert find_access(argparse.Namespace(**{"environment": {}, **given})) == ("lut_x", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_exits_with_130_and_a_line(number, capsys):
    before = signal.getsignal(number)
    assert run_program("program", parser_that(lambda _: signal.raise_signal(number)), ["go"]) == 130
    assert capsys.readouterr().err == f"program: stopped by {number.name}\n"
    assert signal.getsignal(number) is before


def test_keyboard_interrupt_exits_with_130_and_an_error_with_its_own_code(capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    def fail(_):
        raise LutnasError("the sky fell")

    assert run_program("program", parser_that(interrupt), ["go"]) == 130
    assert run_program("program", parser_that(fail), ["go"]) == 1
    assert capsys.readouterr().err == "program: stopped\nprogram: the sky fell\n"


@every_program
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_script_is_one_of_that_shell_and_knows_every_command(name, shell, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name].main(["--print-completion", shell])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    for parser in walk(PROGRAMS[name].parser()):
        assert parser.prog.split()[-1] in script
        assert all(
            flag in script
            for action in parser._actions
            for flag in action.option_strings
            if action.help != argparse.SUPPRESS
        )
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script)
        assert subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True).returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_an_option_of_the_search_itself_and_a_command(capsys, tmp_path):
    with pytest.raises(SystemExit):
        search.cli.main(["--print-completion", "bash"])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    for typed, completed in (
        (["--warm"], "--warmup-steps"),
        (["dia"], "diagnose"),
        (["pick", "--max"], "--max-latency-ms"),
    ):
        words = " ".join(["search", *typed])
        program = (
            f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; source {script}; _shtab_search; echo ${{COMPREPLY[*]}}"
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [completed]


def test_completion_without_shtab_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert profiler_agent.cli.main(["--print-completion", "bash"]) == 1
    assert capsys.readouterr().err == "profiler-agent: --print-completion needs shtab: pip install shtab\n"
