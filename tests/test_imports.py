"""Each program starts without the others' dependencies, checked in a fresh interpreter."""

import subprocess
import sys

import pytest

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


def test_shared_imports_the_standard_library_alone():
    top = {name.partition(".")[0] for name in modules_after_importing("shared")}
    assert top & {"numpy", "onnx", "torch", "onnxruntime", "httpx", "pydantic"} == set()
