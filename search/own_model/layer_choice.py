"""`LayerChoice` marks a choice in a user's own model; `freeze` makes the choices."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import nn

from shared.errors import InvalidValue

_NAME = re.compile(r"[\w.+-]{1,60}")


class LayerChoice(nn.Module):
    """A place of a model with a choice of modules. It may stand anywhere but in another's candidate.

    Args:
        candidates: two or more modules by name. Each takes the same inputs, and gives a tensor of
            the same shape. `nn.Identity()` is a candidate like any other.
        name: of the choice. Choices of the same name are decided together.

    Attributes:
        names: of the candidates, in order.
        chosen: index of the candidate that runs; the first, until somebody sets another.

    Raises:
        InvalidValue: there are fewer than two candidates, a candidate is no module, or a name holds
            more than letters, digits and `_ . + -`.
    """

    def __init__(self, candidates: Mapping[str, nn.Module], name: str) -> None:
        super().__init__()
        self.name, self.names, self.chosen = name, tuple(candidates), 0
        where = f"choice {name!r}"
        for text in (name, *candidates):
            if not isinstance(text, str) or not _NAME.fullmatch(text):
                raise InvalidValue(where, f"{text!r} is no name of up to 60 letters, digits and _ . + -")
        if len(candidates) < 2:
            raise InvalidValue(where, f"has {len(candidates)} candidates, a choice needs two or more")
        for text, candidate in candidates.items():
            if not isinstance(candidate, nn.Module):
                raise InvalidValue(where, f"its candidate {text!r} is a {type(candidate).__name__}, no nn.Module")
        self.candidates = nn.ModuleList(candidates.values())

    def forward(self, *inputs: Any) -> Any:
        run = _RUN.get()
        return self.candidates[self.chosen](*inputs) if run is None else run(self, inputs)


Run = Callable[[LayerChoice, tuple[Any, ...]], Any]
"""The output of a place for its inputs."""
_RUN: ContextVar[Run | None] = ContextVar("run", default=None)


@contextmanager
def deciding(run: Run) -> Iterator[None]:
    """Inside, in this thread, `run` says what each place gives. Other threads run other networks."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


@dataclass(frozen=True, eq=False)
class Choice:
    """A choice of a model.

    Attributes:
        candidates: their names, in order.
        places: where it is made, by the module's path.
    """

    name: str
    candidates: tuple[str, ...]
    places: dict[str, LayerChoice]


def find_choices(model: nn.Module) -> tuple[Choice, ...]:
    """The choices of a model, in the order of its modules.

    Raises:
        InvalidValue: there is none, a choice stands within another's candidate, or two choices of
            a name have other candidates.
    """
    found: dict[str, Choice] = {}
    outer, inside = None, "."
    for path, module in model.named_modules():
        if not isinstance(module, LayerChoice):
            continue
        where = f"choice {module.name!r} at {path or 'the top'}"
        if outer is not None and path.startswith(inside):
            raise InvalidValue(
                where, f"stands in a candidate of choice {outer.name!r}; list the combinations as candidates"
            )
        outer, inside = module, f"{path}." if path else ""
        choice = found.setdefault(module.name, Choice(module.name, module.names, {}))
        if choice.candidates != module.names:
            first = next(iter(choice.places))
            theirs, ours = ", ".join(choice.candidates), ", ".join(module.names)
            raise InvalidValue(where, f"has the candidates {ours}, at {first} it has {theirs}: give it another name")
        choice.places[path] = module
    if not found:
        raise InvalidValue("model", "has no LayerChoice: mark a choice with search.LayerChoice({...}, name=...)")
    return tuple(found.values())


def freeze(model: nn.Module, genotype: Mapping[str, str]) -> nn.Module:
    """A copy of a model, with its weights, in which chosen candidates stand in the places of the choices.

    Its `state_dict` is that of the user's own modules: nothing of `LayerChoice` is left.

    Args:
        genotype: the chosen candidate's name by the choice's name.

    Raises:
        InvalidValue: a choice is left open, or there is no such choice or candidate.
    """
    known = {choice.name: choice.candidates for choice in find_choices(model)}
    for name in known.keys() ^ genotype.keys():
        problem = f"leaves choice {name!r} open" if name in known else f"there is no choice {name!r}"
        raise InvalidValue("genotype", f"{problem} (choices: {', '.join(known)})")
    for name, candidate in genotype.items():
        if candidate not in known[name]:
            raise InvalidValue(
                "genotype", f"{candidate!r} is no candidate of choice {name!r} ({', '.join(known[name])})"
            )
    memo: dict[int, Any] = {}  # deepcopy takes what stands here for its copy: the chosen module for a choice
    for place in model.modules():
        if isinstance(place, LayerChoice):
            memo[id(place)] = copy.deepcopy(place.candidates[place.names.index(genotype[place.name])], memo)
    return copy.deepcopy(model, memo)
