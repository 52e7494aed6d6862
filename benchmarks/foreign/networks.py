"""Twenty-two networks of as many families: small ones of our own in torch, as both exporters of torch.onnx write them.

Each follows the paper that it is named after, with fewer channels and blocks; weights are random.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.foreign import beyond_classes, convolutional, of_patches

EXPORTERS = ("torchscript", "dynamo")
SIDE = 96

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        build.__name__: (build, (1, 3, SIDE, SIDE))
        for build in (
            convolutional.resnet,
            convolutional.resnext,
            convolutional.vgg,
            convolutional.mobilenet_v1,
            convolutional.mobilenet_v2,
            convolutional.mobilenet_v3,
            convolutional.efficientnet,
            convolutional.mnasnet,
            convolutional.regnet,
            convolutional.densenet,
            convolutional.shufflenet_v2,
            convolutional.squeezenet,
            convolutional.inception,
            convolutional.convnext,
            of_patches.mlp_mixer,
            of_patches.vit,
        )
    },
    "swin": (of_patches.swin, (1, 3, 128, 128)),
    "mobilevit": (of_patches.mobilevit, (1, 3, SIDE, SIDE)),
    "unet": (beyond_classes.UNet, (1, 3, 64, 64)),
    "yolo": (beyond_classes.Yolo, (1, 3, 128, 128)),
    "convolution_1d": (beyond_classes.convolution_1d, (1, 12, 512)),
    "lstm": (beyond_classes.Recurrent, (1, 48)),
}
"""Builder and input shape by name; `lstm` reads words."""


def export(folder: Path) -> dict[str, Path]:
    """Write all networks with both exporters, untrained, in inference mode."""
    paths = {}
    for name, (build, shape) in NETWORKS.items():
        torch.manual_seed(0)
        model = build().eval()
        example = torch.randint(0, 1000, shape) if name == "lstm" else torch.randn(shape)
        for exporter in EXPORTERS:
            path = paths[f"{name}_{exporter}"] = folder / f"{name}_{exporter}.onnx"
            write(model, example, path, exporter)
    return paths


def write(model: nn.Module, example: Tensor, path: Path, exporter: str) -> None:
    """Write a network with an exporter of torch.onnx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about both exporters
        if exporter == "dynamo":
            torch.onnx.export(model, (example,), str(path), dynamo=True, external_data=False, verbose=False)
        else:
            torch.onnx.export(model, (example,), str(path), opset_version=17, dynamo=False)
