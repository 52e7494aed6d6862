"""A hook of mkdocs: makes the pages of docs/reference/ that the programs themselves know, and checks the built site.

reference/PROGRAM.md     every command with its flags, from the program's own parser
reference/http.md        every route with its parameters and bodies, from the server's OpenAPI document
reference/openapi.json   that document

After the build no page may load anything from another server.
"""

import argparse
import html
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lut_server.cli
import profiler_agent.cli
import search.cli
from lut_server.app import create_app
from lut_server.settings import Settings

PROGRAMS = {"profiler-agent": profiler_agent.cli, "lut-server": lut_server.cli, "search": search.cli}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of docs/."""
    from mkdocs.structure.files import File

    with tempfile.TemporaryDirectory() as folder:
        document = openapi(Path(folder))
    pages = {f"reference/{name}.md": command_page(name) for name in PROGRAMS}
    pages["reference/http.md"] = http_page(document)
    pages["reference/openapi.json"] = json.dumps(document, indent=1, sort_keys=True)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_post_build(config: Any) -> None:
    """Raise where a built page would load a script, a style, a font or an image from elsewhere."""
    from mkdocs.exceptions import PluginError

    away = r"""["']?(?:https?:)?//[^"' >]+"""
    kinds = r"""rel=["']?(?:stylesheet|preconnect|preload|icon)"""
    outside = re.compile(
        rf"<(?:script|img|iframe|source)[^>]*src(?:set)?={away}"
        rf"|<link[^>]*{kinds}[^>]*href={away}|<link[^>]*href={away}[^>]*{kinds}"
    )
    for page in sorted(Path(config["site_dir"]).rglob("*.html")):
        if match := outside.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page} loads something from elsewhere: {match[0]}")


# --- command lines ----------------------------------------------------------------------------------------------------


class _Parser(Exception):
    """Carries the parser that a program was about to use."""


def parsers(name: str) -> Iterator[argparse.ArgumentParser]:
    """Every parser of a program that takes flags: its commands, and theirs."""
    if name == "search":
        for command in search.cli.COMMANDS:  # each is imported by itself: only then its flags are known
            leaves = _leaves(_parser_of(search.cli, [command]))
            yield from (leaf for leaf in leaves if leaf.prog in (f"search {command}", "search"))
    else:
        yield from _leaves(_parser_of(PROGRAMS[name], []))


def _parser_of(program: Any, arguments: list[str]) -> argparse.ArgumentParser:
    """The parser that the program's `main` makes for these arguments."""

    def caught(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise _Parser(parser)

    kept = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = caught  # type: ignore[assignment]
    try:
        program.main(arguments)
    except _Parser as found:
        return found.args[0]  # type: ignore[no-any-return]
    finally:
        argparse.ArgumentParser.parse_args = kept  # type: ignore[method-assign]
    raise RuntimeError(f"{program.__name__} parsed no arguments")


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not choices:
        yield parser
    for commands in choices:
        for command in dict.fromkeys(commands.values()):
            yield from _leaves(command)


def command_page(name: str) -> str:
    """Markdown of a program's commands."""
    parts = [f"# {name}", f"Made from the parser of `{name}` when this site was built; `{name} --help` says the same."]
    for parser in parsers(name):
        title = "search run" if parser.prog == "search" else parser.prog
        parts += [f"## {title}", _text(parser.description or ""), f"```\n{_usage(parser)}\n```"]
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS and a.dest != "help"]
            if actions:
                parts += [f"**{_text(group.title or '')}**", _flag_table(parser, actions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(parser: argparse.ArgumentParser) -> str:
    """What has to be given; the tables below have all options."""
    needed = [action for action in parser._actions if action.required or not action.option_strings]
    text = argparse.HelpFormatter(parser.prog, width=96)
    text.add_usage(parser.usage, needed, [])
    usage = text.format_help().strip()
    return usage if parser.usage or len(needed) == len(parser._actions) else f"{usage} [option ...]"


def _flag_table(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> str:
    plain = argparse.HelpFormatter(parser.prog)
    rows = ["| flag | what it is |", "| --- | --- |"]
    for action in actions:
        names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
        values = (
            f" `{plain._format_args(action, (action.dest or '').upper())}`"
            if action.nargs != 0 and action.option_strings
            else ""
        )
        rows.append(f"| {names}{values} | {_cell(plain._expand_help(action) if action.help else '')} |")
    return "\n".join(rows)


def _text(text: str) -> str:
    return html.escape(text, quote=False).replace("_", r"\_").replace("*", r"\*")


def _cell(text: str) -> str:
    return " ".join(_text(text).replace("|", r"\|").split())


# --- HTTP -------------------------------------------------------------------------------------------------------------


def openapi(folder: Path) -> dict[str, Any]:
    """The server's OpenAPI document."""
    settings = Settings(database_url=f"sqlite:///{folder / 'empty.db'}")
    return create_app(settings).openapi()


def http_page(document: dict[str, Any]) -> str:
    """Markdown of the routes, and of the schemas of their bodies and answers."""
    parts = [
        "# HTTP schemas",
        "Made from the server's OpenAPI document when this site was built: [openapi.json](openapi.json).",
        "A server answers with it at `/openapi.json`. [HTTP API](../api.md) says what the routes mean.",
        "## Routes",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += [f"### `{method.upper()} {path}`", _cell(operation["summary"]) + f". Role: {operation['x-role']}."]
            parameters = operation.get("parameters", [])
            if parameters:
                rows = [
                    f"| `{p['name']}` | {p['in']} | {_type(p.get('schema', {}))} | {_yes(p.get('required'))} |"
                    for p in parameters
                ]
                parts.append("\n".join(["| parameter | in | type | required |", "| --- | --- | --- | --- |", *rows]))
            lines = []
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                lines.append(f"* body: {kind}, {_type(content.get('schema', {}))}")
            for status, answer in operation["responses"].items():
                types = [_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
                lines.append(f"* {status}: {_cell(answer['description'])} {', '.join(types)}".rstrip())
            parts.append("\n".join(lines))
    parts.append("## Schemas")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(f"### {name}")
        parts.append(_cell(schema.get("description", "")))
        required = schema.get("required", [])
        rows = [
            f"| `{field}` | {_type(kind)} | {_yes(field in required)} | {_cell(kind.get('description', ''))} |"
            for field, kind in schema.get("properties", {}).items()
        ]
        if rows:
            parts.append("\n".join(["| field | type | required | |", "| --- | --- | --- | --- |", *rows]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _yes(value: object) -> str:
    return "yes" if value else ""


def _type(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_type(part) for part in schema[key])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))
