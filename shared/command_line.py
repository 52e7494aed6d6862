"""The base of the three command lines: look, exit codes, options of a server, completion scripts.

Exit codes: 0 done, 1 it failed, 2 wrong use, 130 interrupted (SIGINT or SIGTERM).
Standard library only. If installed, `rich-argparse` colours the help and `shtab` writes the
completion scripts.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import io
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

from shared import __version__
from shared.errors import InvalidValue, LutnasError, in_one_line
from shared.http.trust import CA_FILE_VARIABLE

INTERRUPTED = 130
MOST_COLUMNS = 100
Run = Callable[[argparse.Namespace], int | None]


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came."""


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(signal_number).name)


@contextmanager
def handling_signals(handle: Callable[[int, FrameType | None], None] = _interrupt) -> Iterator[None]:
    """Inside, `handle` takes SIGINT and SIGTERM (in the main thread only); it raises Interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Parser(argparse.ArgumentParser):
    """A parser whose help starts with the description. A mistake takes a line on stderr."""

    def format_help(self) -> str:
        """Description and example, short usage, options by group."""
        formatter = _help_formatter(self.prog)
        formatter.add_text(self.description)
        needed = [group for group in self._mutually_exclusive_groups if group.required]
        shown = [
            action
            for action in self._actions
            if action.required or not action.option_strings or any(action in group._group_actions for group in needed)
        ]
        if len(shown) < len(self._actions) and self._subparsers is None:
            shown.append(argparse.Action((), dest="", metavar="[option ...]"))
        formatter.add_usage(self.usage, shown, needed)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        return formatter.format_help()

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


Commands = argparse._SubParsersAction  # the type of `add_subparsers`


def make_parser(name: str, text: str, usage: str | None = None) -> tuple[Parser, Commands[Parser]]:
    """The parser of a program, and the action that takes its commands."""
    parser = Parser(prog=name, description=_description(text), usage=usage)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    parser.add_argument(
        "--print-completion", action=_PrintCompletion, choices=("bash", "zsh"), help="print a script for the shell"
    )
    return parser, parser.add_subparsers(required=True, metavar="COMMAND", title="commands", prog=name)


def add_command(commands: Commands[Parser], name: str, run: Run, text: str | None = None) -> Parser:
    """Add a command.

    Args:
        run: takes the parsed arguments and returns the exit code; None is 0.
        text: a line that says what it does, an example, more (default: the docstring of `run`).
    """
    text = _description(text or run.__doc__ or "")
    parser = commands.add_parser(name, help=text.splitlines()[0].rstrip("."), description=text)
    parser.set_defaults(command=run)
    return parser


def add_actions(commands: Commands[Parser], name: str, text: str) -> Commands[Parser]:
    """Add a command that has commands of its own."""
    parser = commands.add_parser(name, help=text.splitlines()[0].rstrip("."), description=_description(text))
    return parser.add_subparsers(required=True, metavar="ACTION", title="actions")


def run_program(
    name: str, build: Callable[[], Parser], argv: Sequence[str] | None, environment: Mapping[str, str] | None = None
) -> int:
    """Run the command that `argv` names; returns the exit code.

    A command may set the default `when_interrupted`: a function from its arguments to the advice
    that follows an interruption.
    """
    arguments = argparse.Namespace(environment=os.environ if environment is None else environment)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file may have a name that the terminal cannot show
    try:
        with handling_signals():
            try:
                build().parse_args(argv, arguments)
                run: Run = arguments.command
                return run(arguments) or 0
            finally:
                print(end="", flush=True)  # here, for a full disk
    except LutnasError as error:
        print(f"{name}: {in_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        by = f" by {error}" if str(error) else ""
        advice = arguments.when_interrupted(arguments) if hasattr(arguments, "when_interrupted") else ""
        print(f"{name}: stopped{by}{advice}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            where = "the output" if error.filename is None else in_one_line(error.filename)
            print(f"{name}: {where}: {error.strerror or in_one_line(error)}", file=sys.stderr)
        if error.filename is None:
            # The reader went away (`| head`), or the disk is full. Python's flush at exit must not complain about that.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def add_server(parser: Parser, role: str, required: bool = True, default: str = "") -> None:
    """--lut-url, --token, --token-file, --ca-file.

    Args:
        default: source of the URL without the option.
    """
    group = parser.add_argument_group("lut-server")
    group.add_argument(
        "--lut-url",
        "--server",
        required=required,
        metavar="URL",
        help="of the lut-server, for example http://host:8700" + (f" (default: {default})" if default else ""),
    )
    token = group.add_mutually_exclusive_group()
    token.add_argument("--token", metavar="T", help=f"of the role {role} (or LUTNAS_TOKEN)")
    token.add_argument("--token-file", metavar="FILE", help="that holds the token alone (or LUTNAS_TOKEN_FILE)")
    group.add_argument(
        "--ca-file",
        metavar="FILE",
        help=f"certificates to trust, for a server that made its own (or {CA_FILE_VARIABLE})",
    )


def find_access(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """The token and the file of trusted certificates, from the options or the environment.

    Every user of the machine can read a command line. Nobody else can read a file or the
    environment.

    Raises:
        InvalidValue: the token's file cannot be read, or holds no token.
    """
    environment, given = arguments.environment, vars(arguments)
    ca_file = given.get("ca_file") or environment.get(CA_FILE_VARIABLE) or None
    if given.get("token"):
        return str(arguments.token).strip(), ca_file
    if not given.get("token_file") and environment.get("LUTNAS_TOKEN"):
        return environment["LUTNAS_TOKEN"].strip(), ca_file
    file = given.get("token_file") or environment.get("LUTNAS_TOKEN_FILE")
    return (_read_token(Path(file)) if file else None), ca_file


def within(least: float, most: float = math.inf, kind: type[float] | type[int] = float) -> Callable[[str], float]:
    """The `type` of an option that is a number from `least` to `most`."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most or value == math.inf:
            domain = f"{least:g} or more" if most == math.inf else f"within {least:g} to {most:g}"
            raise argparse.ArgumentTypeError(f"{text} is not {domain}")
        return value

    return number


def _description(text: str) -> str:
    """The text of a docstring with its third line, the example, indented."""
    lines = inspect.cleandoc(text).splitlines()
    return "\n".join(f"    {line.lstrip()}" if number == 2 else line for number, line in enumerate(lines))


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise InvalidValue("token-file", f"{path}: {reason}") from error
    if len(token.split()) != 1:
        raise InvalidValue("token-file", f"{path} does not hold a token and nothing else")
    return token


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, shell: Any, option: str | None = None) -> None:
        shtab = _find_module("shtab")
        if shtab is None:
            raise LutnasError(f"{option} needs shtab: pip install shtab")
        _shorten(parser, shtab)
        print(shtab.complete(parser, shell))
        parser.exit()


def _shorten(parser: argparse.ArgumentParser, shtab: ModuleType) -> None:
    """Keep a line of each command's description; complete file and folder names of options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.description = (command.description or "").partition("\n")[0]
                _shorten(command, shtab)
        elif str(action.metavar).startswith(("FILE", "DIR")):
            action.complete = shtab.FILE if str(action.metavar).startswith("FILE") else shtab.DIRECTORY  # type: ignore[attr-defined]


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    width = min(shutil.get_terminal_size().columns, MOST_COLUMNS)
    rich = _find_module("rich_argparse")
    if rich is None:
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width)
    own = {"text_markup": False, "help_markup": False, "group_name_formatter": str}
    formatter = type("Help", (rich.RawDescriptionRichHelpFormatter,), own)
    return formatter(prog, max_help_position=30, width=width)  # type: ignore[no-any-return]


def _find_module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
