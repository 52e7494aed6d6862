import onnx
import pytest
import torch

from search.cli import main
from search.data.image_set import ImageSet
from search.deploy.export import ExportedModel, build_onnx, onnx_accuracy
from search.deploy.quantisation import export_int8, measured_ranges
from search.retraining.finetune import accuracy_on_test_images
from search.retraining.retrain import Retraining, RetrainingSettings
from search.supernet import Network
from shared.errors import InvalidValue

GENOTYPE = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"


def metadata(content: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}


@pytest.fixture(scope="module")
def model(space, digits: ImageSet) -> ExportedModel:
    torch.manual_seed(0)
    networks = [Network(space, space.parse(GENOTYPE)) for _ in range(2)]
    plain = {"cutout": 0.0, "drop_path_prob": 0.0, "auxiliary_weight": 0.0}
    training = Retraining(networks, digits, RetrainingSettings(epochs=3, batch_size=16, learning_rate=0.1, **plain))
    training.train()
    accuracy = accuracy_on_test_images(training.network, digits)
    assert accuracy > 60
    return ExportedModel(build_onnx(training.network, {"genotype": GENOTYPE}), accuracy, "trained")


def test_a_trained_network_keeps_its_accuracy_in_integers_and_says_both(model, digits, saturates):
    found = export_int8(model, digits, calibration_images=128, reduce_range=saturates)
    assert found.accuracy > model.accuracy - 3
    assert onnx_accuracy(found.content, digits) == found.accuracy
    assert len(found.content) < len(model.content)
    described = metadata(found.content)
    assert described["genotype"] == GENOTYPE
    assert described["precision"] == "int8"
    assert float(described["accuracy"]) == pytest.approx(found.accuracy, abs=0.006)
    assert float(described["accuracy_fp32"]) == pytest.approx(model.accuracy, abs=0.006)
    assert "128 training images" in described["calibration"]
    assert export_int8(model, digits, calibration_images=128, reduce_range=saturates).content == found.content
    assert "weights up to 64" in metadata(export_int8(model, digits, 32, reduce_range=True).content)["calibration"]


def test_ranges_are_those_of_the_images(model, digits):
    every = digits.preprocessing.apply(digits.train_images)
    ranges = measured_ranges(model.content, digits, len(every), seed=0)
    low, high = ranges["input"]
    assert (low, high) == (every.min().item(), every.max().item())
    few = measured_ranges(model.content, digits, 2, seed=0)
    assert set(few) == set(ranges)
    assert all(ranges[name][0] <= few[name][0] <= few[name][1] <= ranges[name][1] for name in few)
    assert any(few[name] != ranges[name] for name in few)


def test_no_calibration_image_is_refused(model, digits):
    with pytest.raises(InvalidValue, match="calibration-images"):
        export_int8(model, digits, 0)


def test_the_command_ships_integers_and_prints_both_accuracies(run, tmp_path, capsys):
    out = tmp_path / "member.onnx"
    asked = ["export", "--run", str(run.path), "--genotype", GENOTYPE, "--tune-epochs", "0.3", "--out", str(out)]
    assert main([*asked, "--int8", "--calibration-images", "64"]) == 0
    said = capsys.readouterr()
    described = metadata(out.read_bytes())
    assert f"test accuracy {described['accuracy_fp32']} %" in said.out
    assert f"in int8 {described['accuracy']} %" in said.out
    assert "the table is of fp32 networks, the file is int8" in said.err
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node)
