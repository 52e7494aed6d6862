"""Looks for inputs that break a reader: `python tests/fuzz/hunt.py TARGET --seconds 600`.

First come the inputs of `corpus/`, then new ones, many of them made from those, until the time is
up. An input fails where a reader raises anything but an error of `shared.errors`, answers with a
5xx, takes more memory than the target allows, or computes for longer than `LONGEST_S`. hypothesis
makes the input smaller and prints it; the last input before a crash is in `corpus/`'s place beside
`--last`. What failed once belongs into `corpus/`.

Each target runs in a process of its own: its memory is its own, and a crash ends nothing else.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import targets
from hypothesis import HealthCheck, Phase, given, seed, settings

CORPUS = Path(__file__).parent / "corpus"
LONGEST_S = 10.0
"""Of the processor, for an input."""
AT_ONCE = 50
_STATUS = Path("/proc/self/status")


def main() -> int:
    parser = argparse.ArgumentParser(prog="hunt.py", description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=sorted(targets.TARGETS))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--last", type=Path, help="file of the input that is being tried")
    options = parser.parse_args()
    faulthandler.enable()
    tried = 0
    with targets.TARGETS[options.target]() as target:

        def attempt(example: bytes) -> None:
            nonlocal tried
            tried += 1
            if options.last:
                options.last.write_bytes(example)
            with bounded(target.most_bytes, example):
                target.check(example)

        known = [path.read_bytes() for path in sorted((CORPUS / options.target).iterdir())]
        if target.by_line:
            known = [line for content in known for line in content.splitlines()]
        for example in known:
            attempt(example)
        end_s = time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            options.seed += 1
            search(target.examples(known), attempt, options.seed, end_s)
    print(f"{options.target}: {tried} inputs, {len(known)} of them from the corpus; up to seed {options.seed}")
    return 0


def search(examples, attempt, number: int, end_s: float) -> None:
    """A few new inputs; raises for what fails, as small as it can be made."""
    began_s = time.monotonic()

    @seed(number)
    @settings(
        max_examples=AT_ONCE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(examples)
    def run(example: bytes) -> None:
        if time.monotonic() < max(end_s, began_s + 1):
            attempt(example)

    run()


@contextmanager
def bounded(most_bytes: int, example: bytes) -> Iterator[None]:
    """Fails where the block takes too much memory, or too long."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before_s, before_bytes = time.process_time(), _memory("VmRSS")
    yield
    took_s, took_bytes = time.process_time() - before_s, _memory("VmHWM") - before_bytes
    assert took_bytes <= most_bytes, f"{took_bytes >> 20} MiB for {len(example)} bytes: {example[:300]!r}"
    assert took_s <= LONGEST_S, f"{took_s:.1f} s for {len(example)} bytes: {example[:300]!r}"


def _memory(name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)[1]) << 10


if __name__ == "__main__":
    sys.exit(main())
