"""docs/agent.md names every command and every flag of the agent."""

import argparse
from pathlib import Path

import pytest

from profiler_agent.cli import parser

PAGE = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")
COMMANDS = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)).choices


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_names_the_command_and_its_flags(command):
    assert f"profiler-agent {command}" in PAGE
    flags = {flag for action in COMMANDS[command]._actions if action.help != argparse.SUPPRESS
             for flag in action.option_strings if flag.startswith("--") and flag != "--help"}  # fmt: skip
    assert {flag for flag in flags if flag not in PAGE} == set()
