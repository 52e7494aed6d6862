"""Each program starts without the others' dependencies, checked in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import search
from shared.graphs.build import build_network
from shared.spaces import make_space

IMPORT_AND_LIST = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules, sep='\\n')"

NEVER = {
    "profiler_agent.cli": {"torch", "fastapi", "sqlalchemy", "pydantic", "onnx", "starlette", "msgspec", "scipy"},
    "lut_server.cli": {"torch", "onnxruntime"},
    "search.cli": {"sqlalchemy", "fastapi"},
}


def modules_after_importing(name: str) -> set[str]:
    fresh = subprocess.run([sys.executable, "-c", IMPORT_AND_LIST, name], capture_output=True, text=True, check=False)
    assert fresh.returncode == 0, fresh.stderr
    return set(fresh.stdout.split())


@pytest.mark.parametrize("program", NEVER)
def test_program_imports_nothing_that_belongs_to_another(program):
    assert modules_after_importing(program) & NEVER[program] == set()


@pytest.mark.parametrize("program", NEVER)
def test_program_imports_neither_of_the_other_two(program):
    own = program.partition(".")[0]
    others = {"profiler_agent", "lut_server", "search"} - {own}
    assert modules_after_importing(program) & others == set()


def test_the_names_for_a_users_own_code_are_there_and_import_torch_only_when_asked_for():
    assert modules_after_importing("search") & {"torch", "httpx", "numpy", "onnx"} == set()
    assert all(callable(getattr(search, name)) for name in search.__all__)
    with pytest.raises(AttributeError, match="no attribute 'predict_latencies'"):
        search.predict_latencies  # noqa: B018


WITHOUT_LOCKS = """
import sys
sys.modules["fcntl"] = None
from importlib import import_module
sys.exit(import_module(sys.argv[1]).main(sys.argv[2:]))
"""
SMALL = ["--device", "pi", "--space", "darts", "--resolution", "8", "--channels", "4", "--depth", "3"]
AWAY = ["--device", "pi", "--lut-url", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("program", "arguments", "code", "words"),
    [
        ("search.cli", AWAY, 1, "search: no answer from http://127.0.0.1:9"),
        ("search.cli", ["pick", "--run", "nowhere", "--max-latency-ms", "1"], 2, "nowhere holds no run"),
        ("profiler_agent.cli", ["predict", "own.onnx", *AWAY], 1, "own.onnx: no answer from http://127.0.0.1:9"),
        ("profiler_agent.cli", ["profile", *SMALL, "--offline", "--out", "run.json"], 1, "on Windows use WSL"),
    ],
    ids=["search", "pick", "predict", "profile"],
)
def test_without_the_file_locks_of_unix_all_but_measuring_works(program, arguments, code, words, tmp_path):
    space = make_space("darts", resolution=8, channels=4, depth=3)
    (tmp_path / "own.onnx").write_bytes(build_network(space, space.fastest()))
    variables = {**os.environ, "LUTNAS_SPOOL": str(tmp_path / "spool"), "PYTHONPATH": str(Path(__file__).parents[1])}
    fresh = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, program, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=variables,
    )
    assert fresh.returncode == code, fresh.stderr
    assert words in fresh.stderr
    assert "Traceback" not in fresh.stderr


def test_shared_imports_the_standard_library_alone():
    top = {name.partition(".")[0] for name in modules_after_importing("shared")}
    assert top & {"numpy", "onnx", "torch", "onnxruntime", "httpx", "pydantic"} == set()
