"""An exported fp32 file in int8, with ranges measured on training images.

The pass is `shared.graphs.quantise`, as for profiling in int8.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from search.data import ImageSet
from search.deploy.export import ExportedModel, onnx_accuracy, open_session, read_metadata
from search.process.randomness import generator
from shared.errors import InvalidValue
from shared.graphs import activation_names, quantise

CALIBRATION_IMAGES = 512
BATCH = 32
"""Images whose activations are in memory at once."""
FULL_WEIGHTS, REDUCED_WEIGHTS = 127, 64


def export_int8(
    model: ExportedModel,
    image_set: ImageSet,
    calibration_images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    reduce_range: bool = False,
    threads: int = 1,
) -> ExportedModel:
    """Quantise an exported fp32 file, and classify all test images with the result.

    Args:
        model: fp32.
        image_set: that the model was exported for.
        calibration_images: number of training images, drawn by the seed; at most all of them.
        reduce_range: weights of 7 bits; x86 processors without VNNI saturate with 8.
        threads: of ONNX Runtime.

    Raises:
        InvalidValue: no calibration image, or a network that has no int8 form.
    """
    if calibration_images < 1:
        raise InvalidValue("calibration-images", f"{calibration_images} is not 1 or more")
    ranges = measured_ranges(model.content, image_set, calibration_images, seed, threads)
    limit = REDUCED_WEIGHTS if reduce_range else FULL_WEIGHTS
    plain = quantise(model.content, ranges, weight_limit=limit)
    accuracy = onnx_accuracy(plain, image_set, threads)
    count = min(calibration_images, len(image_set.train_labels))
    quantised = onnx.load_from_string(plain)
    described = {
        **read_metadata(model.content),
        "precision": "int8",
        "accuracy": f"{accuracy:.2f}",
        "accuracy_fp32": f"{model.accuracy:.2f}",
        "calibration": f"lowest and highest values over {count} training images, weights up to {limit}",
    }
    onnx.helper.set_model_props(quantised, dict(sorted(described.items())))
    return ExportedModel(bytes(quantised.SerializeToString(deterministic=True)), accuracy, model.accuracy_kind)


def measured_ranges(
    content: bytes, image_set: ImageSet, count: int, seed: int, threads: int = 1
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each activation over training images, by tensor name."""
    model = onnx.load_from_string(content)
    inputs = [value.name for value in model.graph.input]
    inside = [name for name in activation_names(content) if name not in inputs]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside if name not in known)
    session = open_session(model, threads)
    ranges: dict[str, tuple[float, float]] = {}
    for images in _calibration_batches(image_set, count, seed):
        values = session.run(inside, {inputs[0]: images})
        for name, value in zip([*inputs, *inside], [images, *values], strict=True):
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(np.min(value))), max(high, float(np.max(value))))
    return ranges


def _calibration_batches(image_set: ImageSet, count: int, seed: int) -> Iterator[NDArray[np.float32]]:
    order = torch.randperm(len(image_set.train_labels), generator=generator(seed, "int8 calibration"))
    for chosen in order[:count].split(BATCH):
        yield image_set.preprocessing.apply(image_set.train_images[chosen]).numpy()
