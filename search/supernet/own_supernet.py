"""A user's own model as a supernet: the places of its choices run what a path or gates say.

It begins with the model's own weights. Batch norms keep no running statistics, as in every supernet
here: those of all paths would fit none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search.own_model.examine import OwnModel
from search.own_model.layer_choice import LayerChoice, deciding
from search.supernet.straight_through import gated
from shared.errors import InvalidValue, in_one_line
from shared.spaces import Genotype, Own


class OwnSupernet(nn.Module):
    """All networks of a user's model, with shared weights. Threads may run different paths.

    Args:
        model: the same, with other weights to begin with; it becomes the supernet's own.
    """

    def __init__(self, own: OwnModel, model: nn.Module | None = None) -> None:
        super().__init__()
        self.space: Own = own.space
        self.model = copy.deepcopy(own.model) if model is None else model
        self.own = own
        self._slots = {choice.name: slot for slot, choice in enumerate(own.choices)}
        for norm in batch_norms(self.model):
            norm.track_running_stats = False
        self.model.to(memory_format=own.layout)  # type: ignore[call-overload]

    def forward(self, x: Tensor, choice: Genotype, auxiliary_skip: float = 0.0) -> Tensor:
        """Logits (batch, classes) of a network."""
        columns = [int(name) for name in choice.choices]
        return self._run(x, lambda place, inputs: place.candidates[columns[self._slots[place.name]]](*inputs))

    def straight_through(self, x: Tensor, gates: Tensor, auxiliary_skip: float = 0.0) -> Tensor:
        """As `Supernet.straight_through`: all candidates run, the chosen one also backwards."""
        expected = (len(self.space.slots), max(self.space.candidates))
        if tuple(gates.shape) != expected:
            raise InvalidValue("gates", f"shape {tuple(gates.shape)}, the space needs {expected}")
        counts, chosen = self.space.candidates, gates.argmax(dim=1).tolist()

        def run(place: LayerChoice, inputs: tuple[Any, ...]) -> Tensor:
            slot = self._slots[place.name]
            count = counts[slot]
            # Columns beyond the candidates repeat them (shared.spaces.own): their gates add up.
            row = torch.stack([gates[slot, column::count].sum() for column in range(count)])
            values = []
            for column, candidate in enumerate(place.candidates):
                with torch.set_grad_enabled(column == chosen[slot] % count):
                    # Copies: a candidate may change its input in place.
                    values.append(candidate(*(v.clone() if isinstance(v, Tensor) else v for v in inputs)))
            # A copy here too: what follows may change it in place, and the gates' gradient needs it.
            return gated(row, range(count), values, chosen[slot] % count).clone()

        return self._run(x, run)

    @torch.no_grad()
    def derive(self, genotype: Genotype) -> nn.Module:
        """A network of the user's own modules with copies of the weights, in evaluation mode."""
        return prepared(self.own.freeze(genotype, self.model), self.own.layout).eval()

    def _run(self, x: Tensor, run: Callable[[LayerChoice, tuple[Any, ...]], Any]) -> Tensor:
        try:
            with deciding(run):
                return self.model(laid_out(x, self.own.layout))  # type: ignore[no-any-return]
        except Exception as error:  # a user's code raises errors of any kind
            raise InvalidValue("model", f"does not run with images {tuple(x.shape)}: {in_one_line(error)}") from error


def prepared(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    """A network that takes images of any memory format, and whose batch norms keep statistics again."""
    for norm in batch_norms(network):
        norm.track_running_stats = norm.running_mean is not None
    network.to(memory_format=layout)  # type: ignore[call-overload]
    network.register_forward_pre_hook(lambda _, inputs: tuple(laid_out(x, layout) for x in inputs))
    return network


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def laid_out(images: Tensor, layout: torch.memory_format) -> Tensor:
    """A copy in the layout that the model was tried in; of one channel both orders look alike."""
    return images.clone(memory_format=layout)
