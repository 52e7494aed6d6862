"""Networks made by hand, beside the members of a ladder: same images, same updates, same device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from search.own_model.model_file import SEED, OwnFile
from search.own_model.onnx_export import inferring
from search.runs.run_directory import find_value, write_value
from shared.errors import InvalidValue
from shared.spaces import Space

HAND_MADE_FILE = "hand_made.json"
MOST_HAND_MADE = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a network, which also names its file."""


@dataclass(frozen=True)
class HandMade:
    """A network made by hand: its latency on the device, and what it learnt beside the members.

    Attributes:
        accuracy: percent, as that of a rung; None until it is trained, and where no budget allows it.
        onnx: relative to the file that holds this; None where it was not trained.
    """

    name: str
    measured_ms: float
    parameters: int
    accuracy: float | None = None
    onnx: str | None = None


def write_hand_made(folder: Path, networks: Iterable[HandMade]) -> None:
    """Write them, instead of those of an earlier ladder."""
    if not (networks := list(networks)):
        (folder / HAND_MADE_FILE).unlink(missing_ok=True)
        return
    write_value(folder / HAND_MADE_FILE, sorted(networks, key=lambda network: network.measured_ms))


def find_hand_made(folder: Path) -> list[HandMade]:
    """Those beside a ladder; none where there are none. Raises CorruptFile if the file is damaged."""
    return list(find_value(tuple[HandMade, ...], folder / HAND_MADE_FILE) or ())


def best_within(networks: Iterable[HandMade], budget_ms: float) -> HandMade | None:
    """The most accurate of those that were trained and are within a budget."""
    within = [each for each in networks if each.accuracy is not None and each.measured_ms <= budget_ms]
    return max(within, key=lambda each: each.accuracy or 0.0, default=None)


def load_hand_made(where: str, space: Space) -> dict[str, nn.Module]:
    """The networks that a function of a file makes: a dict of modules by name.

    Their random weights are those of a seed.

    Raises:
        InvalidValue: as `OwnFile` says, there is no such function, it makes something else, or a
            network fails on images of the space or gives no logits of its classes.
    """
    file, function = OwnFile(where, "beside"), where.rpartition(":")[2]
    if (make := file.find(function)) is None:
        raise InvalidValue("beside", f"{file.name} has no function {function}")
    with torch.random.fork_rng(devices=[]), file.running("beside", SEED):
        networks = make()
    if not (isinstance(networks, dict) and 0 < len(networks) <= MOST_HAND_MADE):
        raise InvalidValue("beside", f"{function} of {file.name} returns no dict of 1 to {MOST_HAND_MADE} networks")
    image = space.input_shape
    images = torch.zeros(2, image.channels, image.height, image.width)
    for name, network in networks.items():
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise InvalidValue("beside", f"{str(name)[:60]!r} names no file: letters, digits and . _ - do")
        if not isinstance(network, nn.Module):
            raise InvalidValue("beside", f"{name} is a {type(network).__name__}, no nn.Module")
        with inferring(network), file.running("beside"):
            logits = network(images)
        wanted = (len(images), space.classes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InvalidValue("beside", f"{name} gives {given} for images {tuple(images.shape)}, not {wanted}")
    return dict(networks)
