"""What can be said of a model with choices before anything is measured, and what is wrong with it."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from search.own_model.layer_choice import Choice, LayerChoice, find_choices, freeze
from search.own_model.onnx_export import inferring, to_onnx
from shared.errors import InvalidValue, in_one_line
from shared.spaces import Genotype, Own
from shared.spaces.op_key import Shape

IMAGES = 2
"""Of the trial: a model that works with a single image alone cannot be trained."""
HASH_DIGITS = 16
LEAST_STRIDED = 8
"""Channels from which on the gradient of a strided 1x1 convolution keeps to its memory."""
Names = tuple[tuple[str, ...], ...]
"""Of each choice and then of its candidates."""


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A model with choices that was found to be in order.

    Attributes:
        classes: logits of an image.
        hash: of the choices and the graphs of its networks, whatever their weights.
        layout: of images and weights in which it trains.
    """

    model: nn.Module
    input_shape: Shape
    choices: tuple[Choice, ...]
    classes: int
    hash: str
    layout: torch.memory_format = torch.contiguous_format

    @property
    def networks(self) -> int:
        """How many networks the choices make."""
        return math.prod(len(choice.candidates) for choice in self.choices)

    @property
    def names(self) -> Names:
        return tuple((choice.name, *choice.candidates) for choice in self.choices)

    @property
    def space(self) -> Own:
        """As server and agent know it.

        Raises:
            InvalidValue: it has more choices than a table, or its images are not square.
        """
        image, counts = self.input_shape, tuple(len(choice.candidates) for choice in self.choices)
        if image.height != image.width:
            raise InvalidValue("input", f"{image} is not square: a search and a table need images of equal sides")
        return Own(image.height, 1, 1, self.classes, image.channels, self.hash, counts)

    def freeze(self, genotype: Genotype, model: nn.Module | None = None) -> nn.Module:
        """The network of a genotype, of this model or of another with its choices."""
        return freeze(self.model if model is None else model, describe_choices(self.names, genotype))

    def parameter_count(self, genotype: Genotype) -> int:
        """Trainable parameters of a network."""
        left_out = {
            id(weight)
            for choice, chosen in zip(self.choices, genotype.choices, strict=True)
            for place in choice.places.values()
            for column, candidate in enumerate(place.candidates)
            if column != int(chosen)
            for weight in candidate.parameters()
        }
        return sum(weight.numel() for weight in self.model.parameters() if id(weight) not in left_out)

    def export(self, genotype: Genotype) -> bytes:
        """ONNX of a network with the model's own weights: the same bytes each time."""
        return to_onnx(self.freeze(genotype), torch.zeros(1, *_sides(self.input_shape)))


def describe_choices(names: Names, genotype: Genotype) -> dict[str, str]:
    """The chosen candidate by choice."""
    return {choice: candidates[int(at)] for (choice, *candidates), at in zip(names, genotype.choices, strict=True)}


def examine(model: nn.Module, input_shape: Shape) -> OwnModel:
    """Run every candidate, and export networks that hold all of them.

    Raises:
        InvalidValue: a line that names the module and says what is wrong with it.
    """
    choices = find_choices(model)
    _check_weights(model, choices)
    images = torch.randn(IMAGES, *_sides(input_shape), generator=torch.Generator().manual_seed(0))
    _check_signature(model, images)
    with inferring(model):
        with _record_calls(model, LayerChoice) as inputs:
            logits, again = (_run(model, images.clone()) for _ in range(2))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != IMAGES:
            raise InvalidValue("model", f"gives {_describe(logits)} for {IMAGES} images, not a row of logits for each")
        if logits.shape != again.shape or not torch.allclose(logits, again, 0, 0, equal_nan=True):
            raise InvalidValue("model", "changes its output between two calls")
        for choice in choices:
            for path in choice.places:
                _check_candidates(choice, path, inputs[path])
    for genotype in covering(choices):
        _check_trains(model, genotype, images)
    graphs = [_export(model, genotype, images[:1]) for genotype in covering(choices)]
    layout = find_layout(model, choices, images)
    return OwnModel(model, input_shape, choices, logits.shape[1], _hash(choices, graphs), layout)


def covering(choices: tuple[Choice, ...]) -> Iterator[dict[str, str]]:
    """As few networks as hold every candidate, each the chosen candidates by choice."""
    for index in range(max(len(choice.candidates) for choice in choices)):
        yield {choice.name: choice.candidates[index % len(choice.candidates)] for choice in choices}


def _check_weights(model: nn.Module, choices: tuple[Choice, ...]) -> None:
    for path, module in model.named_modules():
        compiled = isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod")
        if compiled or module._compiled_call_impl is not None:
            raise InvalidValue("model", f"{path or 'the model itself'} is compiled: give the module as it was before")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != "cpu":
            raise InvalidValue("model", f"{name} lies on {tensor.device}: give the model on the CPU")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise InvalidValue("model", f"{name} is {tensor.dtype}: give the model in torch.float32")
    owners: dict[int, tuple[str, str]] = {}
    for choice in choices:
        for path, place in choice.places.items():
            for candidate, module in zip(place.names, place.candidates, strict=True):
                for name, weight in module.named_parameters():
                    owner = owners.setdefault(id(weight), (choice.name, candidate))
                    if owner != (choice.name, candidate):
                        other = f"candidate {owner[1]!r} of choice {owner[0]!r}"
                        raise InvalidValue(_place(choice, path), f"candidate {candidate!r} shares {name} with {other}")


def _check_signature(model: nn.Module, images: Tensor) -> None:
    try:
        inspect.signature(model.forward).bind(images)
    except TypeError as error:
        raise InvalidValue("model", f"does not take one input, a tensor of images: {error}") from error


def _check_candidates(choice: Choice, path: str, calls: list[tuple[Any, ...]]) -> None:
    """Raise unless all candidates of a place give the same shape, and each the same output twice."""
    where, place = _place(choice, path), choice.places[path]
    if not calls:
        raise InvalidValue(where, "never runs: the model's forward does not call it")
    for inputs in calls:
        shapes = []
        for name, candidate in zip(place.names, place.candidates, strict=True):
            inside = f"{path}, candidate {name!r}"
            first, second = (_run(candidate, *_copies(inputs), where=inside) for _ in range(2))
            if not isinstance(first, Tensor):
                raise InvalidValue(where, f"candidate {name!r} gives {_describe(first)}, not a tensor")
            if first.shape != second.shape or not torch.allclose(first, second, 0, 0, equal_nan=True):
                raise InvalidValue(where, f"candidate {name!r} changes its output between two calls")
            shapes.append(first.shape)
            if shapes[0] != first.shape:
                ours, theirs = _text(first.shape), _text(shapes[0])
                raise InvalidValue(where, f"candidate {name!r} gives {ours} where {place.names[0]!r} gives {theirs}")


def _check_trains(model: nn.Module, genotype: dict[str, str], images: Tensor) -> None:
    network = freeze(model, genotype).train()
    try:
        logits = network(images.clone())
        logits.sum().backward()
    except Exception as error:  # a user's code raises errors of any kind
        raise InvalidValue("model", f"the network {genotype} does not train: {in_one_line(error)}") from error
    if not logits.isfinite().all():
        raise InvalidValue("model", f"the network {genotype} gives logits that are not finite")


def find_layout(model: nn.Module, choices: tuple[Choice, ...], images: Tensor) -> torch.memory_format:
    """Channels-last, in which a CPU trains convolutions up to twice as fast, if every candidate runs in it.

    A `view` that reads channels as neighbours does not. Without AVX-512, oneDNN's gradient of a
    strided 1x1 convolution of few channels writes beyond its memory in it.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions or any(map(_is_narrow_strided_pointwise, convolutions)):
        return torch.contiguous_format
    for genotype in covering(choices):
        network = freeze(model, genotype)
        with inferring(network):
            expected = network(images.clone())
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        in_channels_last = images.clone(memory_format=torch.channels_last)
        try:
            with inferring(network):
                logits = network(in_channels_last.clone())
            network.train()(in_channels_last).sum().backward()
        except (RuntimeError, AssertionError, ValueError):  # of torch, and of code that checks its strides
            return torch.contiguous_format
        if not torch.allclose(logits, expected, 1e-3, 1e-4 * float(expected.abs().max())):
            return torch.contiguous_format
    return torch.channels_last


def _is_narrow_strided_pointwise(layer: nn.Conv2d) -> bool:
    is_strided_pointwise = set(layer.kernel_size) == {1} and set(layer.stride) != {1}
    return is_strided_pointwise and layer.in_channels // layer.groups < LEAST_STRIDED


def _export(model: nn.Module, genotype: dict[str, str], image: Tensor) -> bytes:
    """ONNX of a network; an error names the innermost module that torch.onnx does not export."""
    network = freeze(model, genotype)
    with inferring(network), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        _run(network, fake.from_tensor(image))
    try:
        return to_onnx(network, image)
    except InvalidValue as error:
        with inferring(network), _record_calls(network, nn.Module) as inputs:
            network(image)
        path, reason = _find_culprit(network, inputs, "", error.problem)
        raise InvalidValue("model", f"{path or 'the model itself'} in the network {genotype}: {reason}") from error


def _find_culprit(module: nn.Module, inputs: dict[str, list[Any]], path: str, reason: str) -> tuple[str, str]:
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        for call in inputs[inner][:1]:
            try:
                to_onnx(child, call)
            except InvalidValue as error:
                return _find_culprit(child, inputs, inner, error.problem)
    return path, reason


def _run(module: nn.Module, *inputs: Any, where: str = "") -> Any:
    """The output of a module; an error names the innermost module that raised it."""
    inside: list[str] = []

    def leave(*_: Any) -> None:
        inside.pop()

    handles = []
    for path, part in module.named_modules():
        name = ".".join(filter(None, (where, path))) or "the model itself"
        handles.append(part.register_forward_pre_hook(lambda _, __, name=name: inside.append(name)))
        handles.append(part.register_forward_hook(leave))
    shapes = ", ".join(map(_describe, inputs))
    try:
        return module(*inputs)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        problem = "what it computes, or in which shape, depends on the values of its input"
        raise InvalidValue("model", f"{inside[-1]}: {problem}") from error
    except Exception as error:  # a user's code raises errors of any kind
        raise InvalidValue("model", f"{inside[-1]} does not run ({shapes}): {in_one_line(error)}") from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _record_calls(model: nn.Module, kind: type[nn.Module]) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
    """Inside, copies of what each module of that kind is called with, by its path."""
    calls: dict[str, list[tuple[Any, ...]]] = defaultdict(list)

    def note(path: str, inputs: tuple[Any, ...]) -> None:
        calls[path].append(_copies(inputs))

    handles = [
        module.register_forward_pre_hook(lambda _, inputs, path=path: note(path, inputs))
        for path, module in model.named_modules()
        if isinstance(module, kind)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _hash(choices: tuple[Choice, ...], graphs: list[bytes]) -> str:
    found = hashlib.sha256(json.dumps([(choice.name, choice.candidates) for choice in choices]).encode())
    for graph in graphs:
        found.update(_without_weights(graph))
    return found.hexdigest()[:HASH_DIGITS]


def _without_weights(graph: bytes) -> bytes:
    """The graph alone: training changes weights, another version of torch its own number."""
    model = onnx.load_model_from_string(graph)
    model.producer_version = ""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return bytes(model.SerializeToString(deterministic=True))


def _place(choice: Choice, path: str) -> str:
    return f"choice {choice.name!r} at {path or 'the top'}"


def _copies(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies, since a module may change its input in place."""
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def _sides(shape: Shape) -> tuple[int, int, int]:
    return shape.channels, shape.height, shape.width


def _describe(value: Any) -> str:
    return f"a tensor of {_text(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _text(sides: torch.Size) -> str:
    return "x".join(map(str, sides)) or "a single number"
