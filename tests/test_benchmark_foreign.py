"""The networks of the foreign benchmark, and what its figures are made of."""

import pytest
import torch

from benchmarks.foreign.foreign import _figures
from benchmarks.foreign.networks import NETWORKS, write
from profiler_agent.kernels.model_files import count_file
from profiler_agent.ort.sessions import local_runtime
from shared.kernels.kernel import parse_kernel


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_a_network(name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    example = torch.randint(0, 1000, shape) if name == "lstm" else torch.randn(shape)
    with torch.no_grad():
        assert torch.isfinite(build().eval()(example)).all()


def test_an_exported_network_is_counted_kernel_by_kernel(tmp_path):
    build, shape = NETWORKS["lstm"]
    path = tmp_path / "lstm.onnx"
    write(build().eval(), torch.randint(0, 1000, shape), path, "torchscript")
    counted = count_file(path, local_runtime(), {})
    families = {parse_kernel(kernel).family for kernel in counted.counts}
    assert {"LSTM", "GRU"} <= families


def test_the_figures_name_the_mean_and_the_worst_error():
    figures = _figures({"a": -2.0, "b": 12.0}, missing=5, still_missing=0, seconds=1.0)
    values = {name.removeprefix("profiling.foreign."): figure.value for name, figure in figures.items()}
    assert (values["mape_percent"], values["worst_percent"], values["within_10_percent"]) == (7.0, 12.0, 50.0)
    assert (values["networks"], values["missing_kernels"], values["missing_after"]) == (2, 5, 0)
