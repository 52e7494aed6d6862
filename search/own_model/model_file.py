"""A user's own file, with a model and perhaps a loss. Reading such a file runs its code."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.errors import InvalidValue, LutnasError, in_one_line
from shared.spaces.op_key import Shape

SEED = 0
Loss = Callable[[Tensor, Tensor], Tensor]
"""A number, of logits (batch, classes) and labels (batch,)."""


class OwnFile:
    """A user's own file, named by one of its functions: `FILE.py:FUNCTION`. Its folder is searched for what it imports.

    Args:
        field: the option that names it.

    Raises:
        InvalidValue: there is no such file, or its code fails (the message shows the file's own line).
    """

    def __init__(self, where: str, field: str = "model") -> None:
        self.name, _, function = where.rpartition(":")
        self.path = Path(self.name).resolve()
        if not function.isidentifier() or not self.name.endswith(".py"):
            raise InvalidValue(field, f"{where!r} does not read FILE.py:FUNCTION")
        if not self.path.is_file():
            raise InvalidValue(field, f"there is no file {self.name}")
        if str(self.path.parent) not in sys.path:
            sys.path.insert(0, str(self.path.parent))
        spec = importlib.util.spec_from_file_location(f"own_model_{self.path.stem}", self.path)
        assert spec is not None
        assert spec.loader is not None  # every file that ends in .py has a loader
        self._module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = self._module  # a dataclass looks its module up
        with self.running(field):
            spec.loader.exec_module(self._module)

    def find(self, function: str) -> Callable[[], Any] | None:
        found = getattr(self._module, function, None)
        return found if callable(found) else None

    @contextmanager
    def running(self, field: str, seed: int | None = None) -> Iterator[None]:
        """Inside, the user's code runs, with random numbers of the seed. Its errors become a line."""
        for sow in (torch.manual_seed, np.random.seed, random.seed) if seed is not None else ():
            sow(seed)
        try:
            yield
        except (Exception, SystemExit) as error:  # a user's code raises errors of any kind
            raise InvalidValue(field, _own_line(self.path, self.name, error)) from error


def load_model(where: str, seed: int = SEED) -> nn.Module:
    """The model that a function of a file makes, with the same random weights of a seed each time.

    Raises:
        InvalidValue: as `OwnFile` says, there is no such function, or it makes no module.
    """
    file, function = OwnFile(where), where.rpartition(":")[2]
    if (make := file.find(function)) is None:
        raise InvalidValue("model", f"{file.name} has no function {function}")
    with torch.random.fork_rng(devices=[]), file.running("model", seed):
        model = make()
    if not isinstance(model, nn.Module):
        raise InvalidValue("model", f"{function} of {file.name} returns a {type(model).__name__}, no nn.Module")
    return model


class OwnLoss:
    """The loss that `make_loss()` of a file makes. `mark`, its value at fixed logits, tells another loss."""

    def __init__(self, file: OwnFile, make: Callable[[], Loss], classes: int) -> None:
        self._file = file
        with file.running("make_loss", SEED):
            self._loss = make()
            logits = torch.randn(2 * classes, classes).requires_grad_()
        value = self(logits, torch.arange(2 * classes) % classes)
        is_number = isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad
        with file.running("make_loss"):
            slope = torch.autograd.grad(value, logits, allow_unused=True)[0] if is_number else None
        if slope is None or not slope.any() or not slope.isfinite().all():
            needed = "a tensor of one number, with a finite gradient by the logits"
            raise InvalidValue("make_loss", f"the loss of {file.name} gives {in_one_line(value)[:60]}, not {needed}")
        self.mark = f"{value.item():.4g}"

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        with self._file.running("make_loss"):
            return self._loss(logits, labels)


def find_loss(where: str, classes: int) -> OwnLoss | None:
    """The loss of a model's file; None where it makes none. Raises InvalidValue if it is no loss, or fails."""
    make = (file := OwnFile(where)).find("make_loss")
    return None if make is None else OwnLoss(file, make, classes)


def parse_input(text: str) -> Shape:
    """The shape of an image, from `3x96x96`.

    Raises:
        InvalidValue: the text is none.
    """
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})", text)
    if match is None:
        raise InvalidValue("input", f"'{text[:40]}' does not read CxHxW, as 3x96x96 does")
    return Shape(*map(int, match.groups()))


def _own_line(path: Path, file: str, error: BaseException) -> str:
    """The error, and the last line of the user's own file that led to it."""
    says = in_one_line(error) if isinstance(error, LutnasError) else in_one_line(f"{type(error).__name__}: {error}")
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{file} line {error.lineno} ({(error.text or '').strip()}): {says}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{file} line {own[-1].lineno} ({own[-1].line}): {says}" if own else says
