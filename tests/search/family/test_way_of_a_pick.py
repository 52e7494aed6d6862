"""How many files a `search pick` goes through, from the command line to the printed answer."""

import sys
import threading
from pathlib import Path

import search.commands.pick  # imported before the count: what runs at import is no step of the way
from search.cli import main
from search.family.family import load_family

ROOT = Path(search.__file__).parents[1]
PACKAGES = ("search", "shared", "profiler_agent", "lut_server")
MOST_OF_ALL, MOST_OF_SEARCH = 23, 14


def files_on_the_way(arguments):
    """Files of the four packages of which a function was called, in any thread."""
    seen = set()

    def note(frame, event, _):
        if event == "call":
            seen.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        assert main(arguments) == 0
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    inside = [Path(name).relative_to(ROOT) for name in seen if Path(name).is_relative_to(ROOT)]
    return sorted(str(path) for path in inside if path.parts[0] in PACKAGES)


def test_a_pick_among_scored_networks_goes_through_few_files(run, capsys):
    """The budget is of its own, so alphas are decoded at it; the networks were scored by an earlier pick."""
    budget_ms = 1.01 * load_family(run).members[4].upper_ms
    arguments = ["pick", "--run", str(run.path), "--max-latency-ms", str(budget_ms)]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    files = files_on_the_way(arguments)
    assert capsys.readouterr().out == first
    assert len(files) <= MOST_OF_ALL, files
    assert len([name for name in files if name.startswith("search/")]) <= MOST_OF_SEARCH, files
