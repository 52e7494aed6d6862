"""Each target of the hunt for some seconds: `LUTNAS_FUZZ_S` says how many, and 600 are the long run."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HUNT = Path(__file__).with_name("hunt.py")
SECONDS = float(os.environ.get("LUTNAS_FUZZ_S", "3"))


@pytest.mark.timeout(SECONDS + 280)
@pytest.mark.parametrize("target", ["graphs", "plans", "fetched_plans", "tables", "imports", "models"])
def test_nothing_that_is_found_breaks_the_reader(target, tmp_path):
    last = tmp_path / "last"
    # A run of some seconds tries the same inputs each time; a long run has others.
    seed = 0 if "LUTNAS_FUZZ_S" not in os.environ else random.randrange(10**6)
    command = [sys.executable, HUNT, target, "--seconds", str(SECONDS), "--seed", str(seed), "--last", str(last)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 270)
    tried = last.read_bytes()[:2000] if last.exists() else b"nothing"
    assert found.returncode == 0, f"{found.stdout[-3000:]}\n{found.stderr[-6000:]}\nat last: {tried!r}"
    assert " inputs" in found.stdout
