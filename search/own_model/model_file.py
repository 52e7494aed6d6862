"""Models of a user's own file, named `my_model.py:make_model`. Reading such a file runs its code."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from pathlib import Path

import torch
from torch import nn

from shared.errors import InvalidValue, LutnasError, in_one_line
from shared.spaces.op_key import Shape

SEED = 0


def load_model(where: str, seed: int = SEED) -> nn.Module:
    """The model that a function of a file makes, with the same random weights of a seed each time.

    Args:
        where: `FILE.py:FUNCTION`. The function takes no argument. The file's folder is searched for
            what it imports.

    Raises:
        InvalidValue: there is no such file or function, its code fails (the message shows the
            file's own line), or it makes no module.
    """
    file, _, function = where.rpartition(":")
    path = Path(file).resolve()
    if not function.isidentifier() or not file.endswith(".py"):
        raise InvalidValue("model", f"{where!r} does not read FILE.py:FUNCTION")
    if not path.is_file():
        raise InvalidValue("model", f"there is no file {file}")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"own_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None  # every file that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    try:
        spec.loader.exec_module(module)
        make = getattr(module, function, None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = make() if callable(make) else None
    except (Exception, SystemExit) as error:  # a user's code raises errors of any kind
        raise InvalidValue("model", _own_line(path, file, error)) from error
    if not callable(make):
        raise InvalidValue("model", f"{file} has no function {function}")
    if not isinstance(model, nn.Module):
        raise InvalidValue("model", f"{function} of {file} returns a {type(model).__name__}, no nn.Module")
    return model


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
