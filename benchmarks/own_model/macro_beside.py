"""The networks of `nas-bench-macro` as a user's model, beside the space that is built in.

The same paths train on the same images, in single precision at the whole resolution, in turns on
the same cores. `of_built_in` compares the rates of the same round. Then this machine makes a table
of each, and both predict the same networks by their candidates.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import Progress
from benchmarks.own_model.own_model import MODELS, where
from benchmarks.report import Figure
from benchmarks.search.speed import THREADS, go_on, make_config, nominal_table
from benchmarks.stack import running_stack, this_device
from search import load_table
from search.data import load_images
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer
from shared.spaces import Genotype, make_space
from shared.spaces.op_key import Shape

BUILT_IN = make_space("nas-bench-macro", resolution=32, channels=16, depth=3)
FILE = f"{MODELS / 'macro'}.py"
ROUNDS = 5
STEPS = 24
"""Of a round, an update of alpha in twelve among them."""
PREDICTED = 200


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `own.macro.*`; takes ten minutes."""
    rates = measure_rates(progress)
    ratios = [own / built_in for own, built_in in zip(rates["own"], rates["built_in"], strict=True)]
    lines = [line for line in Path(FILE).read_text(encoding="utf-8").splitlines() if line.strip()]
    ours_ms, theirs_ms = predict_both(progress)
    apart = [100 * abs(own_ms / built_in_ms - 1) for own_ms, built_in_ms in zip(ours_ms, theirs_ms, strict=True)]
    return {
        "own.macro.lines": Figure(value=len(lines), bar="<= 60"),
        **{
            f"own.macro.{name}_images_per_s": Figure(
                value=fmean(listed), unit="images/s", n=len(listed), spread=stdev(listed)
            )
            for name, listed in rates.items()
        },
        "own.macro.of_built_in": Figure(value=fmean(ratios), n=len(ratios), spread=stdev(ratios), bar=">= .8"),
        "own.macro.tables_apart_percent": Figure(
            value=fmean(apart), unit="%", n=len(apart), spread=f"at most {max(apart):.1f}", bar="<= 2"
        ),
    }


def measure_rates(progress: Progress, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Training images per second in each round, by the search's own training."""
    own = examine(load_model(f"{FILE}:make_model"), Shape(3, BUILT_IN.resolution, BUILT_IN.resolution))
    images = load_images("digits", BUILT_IN.resolution, 3)
    settings = {"own": {"model": f"{FILE}:make_model", "choices": own.names}, "built_in": {}}
    spaces = {"own": own.space, "built_in": BUILT_IN}
    rates: dict[str, list[float]] = {name: [] for name in spaces}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for name, space in spaces.items():
            table = nominal_table(space)
            config = make_config(table, images, search_resolution=space.resolution, **settings[name])
            trainers[name] = Trainer(RunDirectory.create(Path(folder) / name, config, table, images=images), images)
            go_on(trainers[name], 1)  # the first update is slower
        for number in range(rounds):
            progress(f"macro: training, {THREADS} threads, round {number + 1} of {rounds}")
            for name, trainer in trainers.items():
                begun_s = time.monotonic()
                go_on(trainer, STEPS)
                seen = STEPS * trainer.config.paths_per_step * trainer.config.batch_size
                rates[name].append(seen / (time.monotonic() - begun_s))
    return rates


def predict_both(progress: Progress) -> tuple[list[float], list[float]]:
    """Milliseconds of the same networks by the table of the model and by that of the built-in space."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        progress("macro: a table of the built-in space")
        stack.profile(this_device(), "--space", str(BUILT_IN))
        progress("macro: a table of the model")
        with stack.working_agent(this_device()):
            stack.search("space", *where(stack, "macro", BUILT_IN.resolution))
        theirs, ours = (load_table(this_device(), stack.url, name) for name in (str(BUILT_IN), "own"))
    draw = random.Random(0)
    networks = [BUILT_IN.sample(draw) for _ in range(PREDICTED)]
    columns = [Genotype(tuple(str(BUILT_IN.candidates.index(name)) for name in found.choices)) for found in networks]
    return [ours.predict(found).mean_ms for found in columns], [theirs.predict(found).mean_ms for found in networks]
