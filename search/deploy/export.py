"""A member as an ONNX file, checked with ONNX Runtime.

The code that builds graphs for profiling builds the file, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import nn

from search.data import ImageSet
from search.family.family import Candidate
from search.own_model.onnx_export import to_onnx
from search.retraining.finetune import accuracy_on_test_images
from search.supernet import Network, Supernet, recompute_statistics
from search.supernet.own_supernet import OwnSupernet
from shared import __version__
from shared.errors import LutnasError
from shared.graphs import build_network
from shared.runtime import silence_onnxruntime
from shared.spaces import Genotype
from shared.spaces.op_key import Shape
from shared.tables.table import LatencyTable

if TYPE_CHECKING:
    import onnxruntime

COMPARED, MOST_APART = 1000, 1
"""Test images that torch classifies, too, and by how many right answers the two may differ: a near tie may tip over."""
BATCH = 100


@dataclass(frozen=True)
class ExportedModel:
    """ONNX bytes, and their accuracy with ONNX Runtime on all test images, percent."""

    content: bytes
    accuracy: float
    accuracy_kind: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def build_onnx(network: nn.Module, metadata: Mapping[str, str] | None = None, image: Shape | None = None) -> bytes:
    """ONNX bytes of a network with its weights; one of a user's own model needs the shape of its image."""
    if not isinstance(network, Network):
        assert image is not None
        model = onnx.load_from_string(to_onnx(network, torch.zeros(1, image.channels, image.height, image.width)))
        onnx.helper.set_model_props(model, dict(metadata or {}))
        return bytes(model.SerializeToString())
    weights = {name: tensor.detach().float().numpy() for name, tensor in network.state_dict().items()}
    return build_network(network.space, network.genotype, weights=weights, metadata=metadata or {})


def untuned_onnx(supernet: Supernet | OwnSupernet, genotype: Genotype) -> bytes:
    """ONNX bytes of a member with inherited weights: enough to measure its latency.

    Batch norms get the statistics of random images. The supernet keeps none, and without them a
    network may overflow.
    """
    network = supernet.derive(genotype)
    image = supernet.space.input_shape
    noise = torch.randn(16, image.channels, image.height, image.width, generator=torch.Generator().manual_seed(0))
    recompute_statistics(network, [noise])
    return build_onnx(network, image=image)


def export(
    network: nn.Module,
    candidate: Candidate,
    table: LatencyTable,
    image_set: ImageSet,
    accuracy_kind: str,
    threads: int = 1,
) -> ExportedModel:
    """Build the file of a member, and compare ONNX Runtime's accuracy with torch's on the first test images.

    Args:
        network: with the weights to ship.
        candidate: the same network with its prediction.
        table: that the prediction is from.
        image_set: at the network's resolution; all its test images are classified.
        accuracy_kind: how the weights came about.
        threads: of ONNX Runtime.

    Raises:
        LutnasError: the two accuracies differ.
    """
    space = table.parsed_space
    plain, genotype = build_onnx(network, image=space.input_shape), space.format(candidate.genotype)
    # A user's own module may have been exported with the shapes of a single image.
    batch = BATCH if isinstance(network, Network) else 1
    few = replace(image_set, test_images=image_set.test_images[:COMPARED], test_labels=image_set.test_labels[:COMPARED])
    of_file, of_torch = onnx_accuracy(plain, few, threads, batch), accuracy_on_test_images(network, few)
    if round(abs(of_file - of_torch) / 100 * len(few.test_labels)) > MOST_APART:
        raise LutnasError(
            f"the exported file of {genotype} gives {of_file:.2f} % where torch gives {of_torch:.2f} %;"
            " nothing was written"
        )
    accuracy = onnx_accuracy(plain, image_set, threads, batch)
    metadata = {
        **image_set.preprocessing.describe(),
        "genotype": genotype,
        "space": table.space,
        "device": table.device,
        "runtime": str(table.runtime),
        "table_hash": table.hash,
        "predicted_ms": f"{candidate.predicted_ms:.6g}",
        "upper_ms": f"{candidate.upper_ms:.6g}",
        "parameters": str(sum(weight.numel() for weight in network.parameters())),
        "dataset": image_set.title,
        "accuracy": f"{accuracy:.2f}",
        "accuracy_kind": accuracy_kind,
        "lutnas_version": __version__,
    }
    return ExportedModel(build_onnx(network, metadata, space.input_shape), accuracy, accuracy_kind)


def onnx_accuracy(content: bytes, image_set: ImageSet, threads: int = 1, batch: int = BATCH) -> float:
    """Accuracy of an ONNX file over all test images with ONNX Runtime, percent.

    The file takes a single image. This check runs its graph with `batch` images: that is several
    times faster.
    """
    session = open_session(onnx.load_from_string(content), threads)
    name = session.get_inputs()[0].name
    correct = 0
    for images, labels in zip(image_set.test_images.split(batch), image_set.test_labels.split(batch), strict=True):
        pixels = image_set.preprocessing.apply(images).numpy()
        logits = np.asarray(session.run(None, {name: pixels})[0])
        correct += int((logits.argmax(axis=1) == labels.numpy()).sum())
    return 100 * correct / len(image_set.test_labels)


def read_metadata(content: bytes) -> dict[str, str]:
    """What an ONNX file says of itself."""
    return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}


def open_session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """A session on a CPU for any number of images. It changes the model."""
    silence_onnxruntime(os.environ)
    import onnxruntime

    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
