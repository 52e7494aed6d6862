"""A user's own ONNX files: which are counted, and what is said of the others."""

import gzip
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler_agent.kernels.model_files import count_file
from profiler_agent.ort.sessions import local_runtime

RUNTIME = local_runtime()


def model(shape=(1, 16, 8, 8), kind=TensorProto.FLOAT, inputs=1, operator="Relu", opset=17):
    names = [f"image{index}" for index in range(inputs)]
    weight = numpy_helper.from_array(np.ones((16, 16, 3, 3), np.float32), "weight")
    nodes = [helper.make_node("Cast", [names[0]], ["x"], to=TensorProto.FLOAT)] if kind != TensorProto.FLOAT else []
    x = "x" if nodes else names[0]
    nodes.append(helper.make_node("Conv", [x, "weight"], ["conv"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node(operator, ["conv"] if inputs == 1 else ["conv", *names[1:]], ["output"]))
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None if operator == "Det" else [None] * 4)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def counted(tmp_path, made, shapes=None):
    path = tmp_path / "own.onnx"
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        onnx.save(made, path)
    return count_file(path, RUNTIME, shapes or {})


@pytest.mark.parametrize("opset", [13, 17, 20, 21])
def test_a_plain_file_is_counted_whatever_its_opset(tmp_path, opset):
    found = counted(tmp_path, model(opset=opset))
    assert any("activation=Relu" in kernel for kernel in found.counts)
    assert found.note is None


def test_a_free_batch_is_fixed_and_said(tmp_path):
    found = counted(tmp_path, model(shape=("batch", 16, 8, 8)))
    assert found.counts == counted(tmp_path, model()).counts
    assert "batch" in found.note


@pytest.mark.parametrize("free", [("", 16, 8, 8), (1, 16, "side", "side"), ("n", "c", "h", "w")])
def test_free_sides_are_those_that_were_given(tmp_path, free):
    made = model(shape=[side or None for side in free])
    found = counted(tmp_path, made, {"image0": (1, 16, 8, 8)})
    assert (found.counts, found.note) == (counted(tmp_path, model()).counts, None)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"picture": (1, 16, 8, 8)}, "'picture' is no input of the model (has: image0)"),
        ({"image0": (1, 16, 8)}, "1,16,8 does not fit the input 'image0' (1,16,height,8)"),
        ({"image0": (1, 3, 8, 8)}, "1,3,8,8 does not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path, shapes, problem):
    assert problem in counted(tmp_path, model(shape=(1, 16, "height", 8)), shapes).problem


@pytest.mark.parametrize(
    "made",
    [
        model(inputs=2, operator="Add"),
        model(kind=TensorProto.UINT8),
        model(kind=TensorProto.FLOAT16),
        model(shape=(2, 16, 8, 8)),
        model(shape=(1, 16, 8, 8), operator="Det"),
    ],
    ids=("two inputs", "uint8", "fp16", "batch 2", "an unusual operator"),
)
def test_whatever_the_runtime_runs_is_counted(tmp_path, made):
    assert counted(tmp_path, made).counts


@pytest.mark.parametrize("folder", ["plain", "with space", "с именем"])
def test_weights_in_another_file_are_read(tmp_path, folder):
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "own.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="own.data", size_threshold=0)
    assert count_file(path, RUNTIME, {}).counts == counted(tmp_path, model()).counts


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (b"<html>", "not an ONNX model but a page of HTML"),
        (b"\n<!DOCTYPE html>", "not an ONNX model but a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "not an ONNX model but a pointer of Git LFS; `git lfs"),
        (gzip.compress(model().SerializeToString()), "not an ONNX model but a gzip file; unpack it with gunzip"),
        (b"PK\x03\x04" + b"0" * 40, "not an ONNX model but a zip archive, such as a checkpoint of PyTorch"),
        (b"", "not an ONNX model: it is empty"),
        (b"\x80\x02}q\x00.", "not an ONNX model but a pickle"),
        (b"\x1c\0\0\0TFL3" + b"\0" * 60, "not an ONNX model but a model of TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "not an ONNX model but an HDF5 file"),
        (model().SerializeToString()[:200], "not an ONNX model: it is cut off or damaged ("),
        (model(opset=99), "Current official support for domain ai.onnx is till opset"),
        (model(shape=(1, 16, "height", 8)), "has free sides (1,16,height,8): say which with --shape image0=1,16,N,8"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_one_line(tmp_path, made, problem):
    found = counted(tmp_path, made)
    assert found.counts is None
    assert problem in found.problem
    assert "\n" not in found.problem


def test_a_file_that_is_too_large_for_a_model_is_not_read(tmp_path):
    with (tmp_path / "film.onnx").open("wb") as file:
        file.truncate((1 << 31) + 1)
    assert "is larger than 2 GB" in count_file(tmp_path / "film.onnx", RUNTIME, {}).problem


def test_a_graph_of_5000_nodes_is_counted_whole(tmp_path):
    shape, names = [1, 4, 8, 8], ("Sigmoid", "Tanh", "Softsign", "Softplus")
    nodes = [helper.make_node(names[i % 4], [f"v{i}"], [f"v{i + 1}"]) for i in range(5000)]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("v0", "v5000")]
    made = helper.make_model(helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    found = counted(tmp_path, made)
    assert found.problem is None
    assert sorted(found.counts.values()) == [1250] * 4


def test_a_network_that_the_runtime_makes_a_constant_of_is_refused_in_one_line(tmp_path):
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "weight")
    nodes = [helper.make_node("Erf", ["weight"], ["y"])]
    made = helper.make_graph(nodes, "own", [], [onnx.ValueInfoProto(name="y")], [weight])
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert "nothing is left to execute: ONNX Runtime makes a constant" in counted(tmp_path, made).problem


@pytest.mark.skipif(sys.platform != "linux", reason="names are texts there")
def test_weights_in_a_folder_whose_name_is_no_text_are_refused_in_one_line(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    onnx.save(model(), tmp_path / "own.onnx", save_as_external_data=True, location="own.data", size_threshold=0)
    for name in ("own.onnx", "own.data"):
        shutil.move(tmp_path / name, folder / name)
    assert "whose name is no text" in count_file(folder / "own.onnx", RUNTIME, {}).problem


def test_quantised_file_beside_a_table_of_fp32_is_told_of_int8(tmp_path):
    made = model()
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    zero = numpy_helper.from_array(np.uint8(0), "zero")
    made.graph.initializer.extend([scale, zero])
    made.graph.node[0].input[0] = "dequantised"
    made.graph.node.insert(0, helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["dequantised"]))
    made.graph.node.insert(0, helper.make_node("QuantizeLinear", ["image0", "scale", "zero"], ["quantised"]))
    found = counted(tmp_path, made)
    assert found.note == "it is quantised, the table is of fp32: --precision int8 asks that of int8"
    int8 = local_runtime(precision="int8")
    assert count_file(tmp_path / "own.onnx", int8, {}).note is None


def test_free_batch_that_an_exporter_wrote_as_minus_one_is_free(tmp_path):
    found = counted(tmp_path, model(shape=(-1, 16, 8, 8)))
    assert found.note == "its free batch is taken as 1"


def test_texts_are_read_like_any_other_type(tmp_path):
    nodes = [helper.make_node("Identity", ["words"], ["y"])]
    inputs = [helper.make_tensor_value_info("words", TensorProto.STRING, [1, 4])]
    made = helper.make_graph(nodes, "own", inputs, [onnx.ValueInfoProto(name="y")])
    found = counted(tmp_path, helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert found.problem is None or "element type" not in found.problem


def test_a_missing_file_is_named_and_does_not_hold_up_the_others(tmp_path):
    onnx.save(model(), tmp_path / "own.onnx")
    missing, found = (count_file(tmp_path / name, RUNTIME, {}) for name in ("no.onnx", "own.onnx"))
    assert "is not a file" in missing.problem
    assert found.counts
