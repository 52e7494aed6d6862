"""Several networks tuned side by side on the same batches, for as long as a time allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from torch import Tensor, nn

from search.retraining.finetune import Tuner, TuningImages, TuningSettings

UPDATES_AT_ONCE = 4
"""Of a network, until the others have caught up."""
LATER_PASSES = 0.7
"""Time of a pass in evaluation, as a share of the first pass, whose statistics take time."""


def tune_side_by_side(
    networks: Sequence[nn.Module],
    images: TuningImages,
    settings: TuningSettings,
    steps: int,
    pool: Executor,
    ends_s: float,
    passes: float,
    advance: Callable[[int], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, float]:
    """Tune in place, as many updates of each as fit.

    Args:
        networks: in the order in which the pool takes them: the largest first.
        steps: wanted updates of each network.
        pool: its threads share the networks.
        ends_s: when all of it is to be over, and `passes` of each network over the images of its
            batch-norm statistics, too.
        advance: told of finished updates of all networks together.
        clock: seconds, that of `ends_s`.

    Returns:
        Updates that each network had, and the seconds that those passes take.
    """

    def draw(first: int) -> list[tuple[Tensor, Tensor]]:
        return [images.stream.batch(index) for index in range(first, min(first + UPDATES_AT_ONCE, steps))]

    begun_s, done = clock(), 0
    tuners = list(pool.map(lambda network: Tuner(network, images, settings, steps), networks))
    # That was a first pass over those images.
    from_s = clock()
    passes_s = LATER_PASSES * passes * (from_s - begun_s)
    left_s = ends_s - from_s - passes_s
    batches = draw(0)
    while done < steps and (spent_s := clock() - from_s) < left_s:
        # The learning rate falls to zero in the time that there is.
        position = max(done, steps * spent_s / left_s)
        following = pool.submit(draw, done + len(batches))
        list(pool.map(partial(Tuner.update_by_each, batches=batches, position=position), tuners))
        done += len(batches)
        advance(len(tuners) * len(batches))
        batches = following.result()
    return done, passes_s
