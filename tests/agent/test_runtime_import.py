import os
import re
import subprocess
import sys

import pytest

from profiler_agent.ort.providers import import_onnxruntime
from shared.command_line import Interrupted
from shared.runtime import TELEMETRY_VARIABLE

PROBE = [sys.executable, "-m", "profiler_agent", "probe"]


def run_probe(home, **more):
    # Without the variables of a CI, in which ONNX Runtime is silent by itself.
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **more}
    done = subprocess.run(PROBE, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert re.search(r"^providers .*\bcpu\b", done.stdout, re.MULTILINE)
    return [path for path in home.rglob("*") if path.is_file()]


def test_nothing_is_kept_or_reported_for_the_maker_of_onnxruntime(tmp_path):
    assert run_probe(tmp_path) == []


def test_who_wants_the_reports_is_obeyed(monkeypatch):
    monkeypatch.setenv(TELEMETRY_VARIABLE, "0")
    import_onnxruntime()
    assert os.environ[TELEMETRY_VARIABLE] == "0"


def test_a_signal_while_the_library_starts_is_still_that_signal(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text(
        "from shared.command_line import Interrupted\nraise ImportError('initialization failed') from Interrupted(15)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(Interrupted):
        import_onnxruntime()


def test_a_missing_library_is_a_failed_import(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError):
        import_onnxruntime()
