import argparse
import json
import math
import random
import shutil
from dataclasses import replace

import onnx
import pytest
import torch

from search.cli import main
from search.commands.train import add_recipe, chosen_settings, first_networks, train
from search.data.preprocessing import cutout
from search.process.progress import SilentProgress
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_test_images, recalibration_images
from search.retraining.regularisation import AuxiliaryHead, DropPath
from search.retraining.retrain import RECIPES, Retraining, RetrainingSettings, half_side
from search.retraining.retrain_directory import TrainedNetwork
from search.runs.run_directory import RunDirectory
from search.supernet import Network
from search.supernet.primitives import build_op
from shared.errors import CorruptFile, InvalidValue, LutnasError, WrongUse
from shared.spaces import make_space
from shared.spaces.op_key import OpKey, Shape

GENOTYPE = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
SHORT = RetrainingSettings(epochs=2, batch_size=64, learning_rate=0.1)


@pytest.fixture(scope="module")
def few(digits):
    """Few enough for a test, many enough to learn from."""
    return replace(digits, train_images=digits.train_images[:512], train_labels=digits.train_labels[:512])


def networks(space, seed=0):
    torch.manual_seed(seed)
    return [Network(space, space.parse(GENOTYPE)) for _ in range(2)]


def test_cutout_blanks_one_square_of_each_image():
    images = torch.ones(300, 2, 8, 6)
    out = cutout(images, torch.Generator().manual_seed(0), 4)
    blank = (out == 0).sum(dim=(2, 3))
    assert torch.equal(blank[:, 0], blank[:, 1])
    assert set(blank[:, 0].tolist()) == {a * b for a in (2, 3, 4) for b in (2, 3, 4)}
    rows = (out[:, 0] == 0).any(dim=2)
    assert torch.equal(rows.sum(dim=1) * (out[:, 0] == 0).any(dim=1).sum(dim=1), blank[:, 0])
    assert cutout(images, torch.Generator(), 0) is images


def test_drop_path_leaves_out_whole_ops_of_single_images_while_training_only(space):
    network = networks(space)[0]
    paths = DropPath(network)
    # Of six slots two are skips and one alone reaches its node; three cells.
    assert paths.places == 3 * 3
    paths.drop_path_prob, paths.generator = 0.5, torch.Generator().manual_seed(0)
    cell = network.get_submodule("stages.0.0")
    images = torch.ones(64, 1, 16, 16)
    seen = []
    network.get_submodule("stages.0.0.5").register_forward_hook(lambda op, x, y: seen.append(y))
    network.train()(images)
    left_out = [bool((features == 0).all()) for features in seen[0]]
    assert 16 < sum(left_out) < 48
    assert cell.training
    with torch.no_grad():
        assert torch.equal(network.eval()(images), network(images))
    assert not any(bool((features == 0).all()) for features in seen[-1])


def test_blocks_with_a_shortcut_drop_what_stands_beside_it():
    block = build_op(OpKey("k3_e1", Shape(8, 4, 4), Shape(8, 4, 4), 1))
    narrowing = build_op(OpKey("k3_e1", Shape(8, 4, 4), Shape(16, 4, 4), 1))
    assert (block.has_shortcut, narrowing.has_shortcut) == (True, False)
    space = make_space("nas-bench-201", resolution=16, channels=4, depth=1)
    network = Network(space, space.parse(GENOTYPE)).train()
    places = DropPath(network).places
    network.block, network.narrowing = block, narrowing
    paths = DropPath(network)
    assert paths.places == places + 1
    paths.drop_path_prob, paths.generator = 0.999999, torch.Generator().manual_seed(0)
    images = torch.randn(4, 8, 4, 4)
    assert torch.equal(block(images), images)
    assert not torch.equal(block.eval()(images), images)


def test_the_auxiliary_head_reads_the_smallest_maps_and_adds_nothing_to_the_network():
    space = make_space("nas-bench-201", resolution=16, channels=4, depth=1)
    network = Network(space, space.parse(GENOTYPE)).train()
    names = set(network.state_dict())
    head = AuxiliaryHead(network)
    network(torch.randn(6, 3, 16, 16))
    assert head.conv_1.in_channels == 16
    logits = head.logits()
    assert logits.shape == (6, 10)
    logits.sum().backward()
    assert network.get_submodule("stem.conv").weight.grad is not None
    assert network.get_submodule("classifier.linear").weight.grad is None
    assert set(network.state_dict()) == names


def test_training_learns_and_goes_on_bit_equal_wherever_it_was_stopped(space, few):
    whole, metrics = Retraining(networks(space), few, SHORT), []
    assert whole.train(metrics.append)
    assert [line["epoch"] for line in metrics] == [1, 2]
    assert metrics[1]["loss"] < metrics[0]["loss"]
    assert metrics[0]["drop_path_prob"] == 0
    assert metrics[1]["drop_path_prob"] == 0.1
    part = Retraining(networks(space), few, SHORT, threads=1)
    assert not part.train(stopped=lambda: part.step == 11)
    state = {**part.state()}
    rest = Retraining(networks(space, seed=9), few, SHORT)
    rest.load(state)
    assert rest.train()
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name
    other = Retraining(networks(space), few, replace(SHORT, seed=1))
    other.train(stopped=lambda: other.step == 1)
    assert not torch.equal(other.network.stem.conv.weight, part.network.stem.conv.weight)


def test_the_first_epochs_may_see_images_of_half_the_side_and_go_on_bit_equal(space, few):
    settings = replace(SHORT, half_size=0.5, warmup=0.25, auxiliary_weight=0.0)
    sides: list[int] = []
    whole = Retraining(networks(space), few, settings, threads=1)
    whole.network.register_forward_pre_hook(lambda network, inputs: sides.append(inputs[0].shape[-1]))
    rates: list[float] = []
    assert whole.train(advance=lambda n, **shown: rates.append(whole._optimizer.param_groups[0]["lr"]))
    assert sides == [space.resolution // 2] * whole.steps_per_epoch + [space.resolution] * whole.steps_per_epoch
    assert rates.index(max(rates)) == pytest.approx(whole.total_steps / 4, abs=1)
    assert rates[0] < max(rates) / 2
    part = Retraining(networks(space), few, settings)
    assert not part.train(stopped=lambda: part.step == 5)
    rest = Retraining(networks(space, seed=9), few, settings)
    rest.load(part.state())
    assert rest.train()
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name


def test_half_the_side_is_refused_where_the_reductions_do_not_divide_it(few):
    odd = make_space("nas-bench-201", resolution=12, channels=4, depth=1, image_channels=1)
    with pytest.raises(InvalidValue, match="half-size: half of 12 pixels is no multiple of 4"):
        half_side(odd)


def test_few_epochs_are_trained_by_the_short_recipe_unless_another_is_asked_for(reading):
    parser = argparse.ArgumentParser()
    add_recipe(parser, 2, "trainings")

    def settings(*words: str) -> RetrainingSettings:
        first, second = chosen_settings(parser.parse_args(words), replace(reading.config, seed=0, precision="fp32"))
        assert second == replace(first, seed=1)
        return first

    assert settings() == RetrainingSettings()
    assert settings("--epochs", "5", "--recipe", "darts") == RetrainingSettings(epochs=5)
    short = settings("--epochs", "5", "--cutout", "0.25")
    assert (short.epochs, short.cutout, short.drop_path_prob) == (5, 0.25, RECIPES["short"]["drop_path_prob"])
    assert settings("--recipe", "short").learning_rate == RECIPES["short"]["learning_rate"]


def test_training_that_diverges_says_where(space, digits):
    training = Retraining(networks(space), digits, replace(SHORT, learning_rate=1e30))
    with pytest.raises(LutnasError, match=r"diverged at step \d+ \(epoch 1\).*--learning-rate"):
        training.train()


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"drop_path_prob": 1.0}, {"cutout": 1.5}, {"learning_rate": math.nan}]
)
def test_a_recipe_that_cannot_be_names_the_setting(change):
    with pytest.raises(InvalidValue, match=next(iter(change)).replace("_", "-")):
        RetrainingSettings(**change)


def test_inherited_weights_are_those_of_the_supernet_in_every_shard(reading, digits, tmp_path):
    run = RunDirectory.open(shutil.copytree(reading.path, tmp_path / "run"))
    trained = TrainedNetwork.begin(run, run.space.parse(GENOTYPE), replace(SHORT, inherit=True))
    network, other = first_networks(run, digits, trained)
    expected = run.supernet().state_dict()["stem.conv.weight"]
    assert torch.equal(network.stem.conv.weight, expected)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
    assert accuracy_on_test_images(network, digits) > 12
    cold = first_networks(run, digits, TrainedNetwork.begin(run, run.space.parse(GENOTYPE), SHORT))
    assert not torch.equal(cold[0].stem.conv.weight, expected)


def test_an_inherited_training_begins_anew_once_the_search_went_on(run):
    genotype, warm = run.space.parse(GENOTYPE), replace(SHORT, inherit=True)
    before = [TrainedNetwork.begin(run, genotype, settings).path for settings in (warm, SHORT)]
    assert [TrainedNetwork.begin(run, genotype, settings).path for settings in (warm, SHORT)] == before
    checkpoint = run.load_checkpoint()
    run.save_checkpoint(replace(checkpoint, step=checkpoint.step + 1))
    after = [TrainedNetwork.begin(run, genotype, settings).path for settings in (warm, SHORT)]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_statistics_are_those_of_all_classes_where_images_lie_class_by_class(digits):
    labels = digits.train_labels.sort().values
    pixels = (20 * labels)[:, None, None, None].expand(-1, *digits.train_images.shape[1:]).to(torch.uint8)
    folder = replace(digits, train_images=pixels, train_labels=labels)
    tuning = TuningImages(folder, TuningSettings(recalibration_images=200)).recalibration
    half = TuningImages(folder, TuningSettings(recalibration_images=200), indices=torch.arange(750)).recalibration
    for images, classes in ((tuning, 10), (recalibration_images(folder, 200), 10), (half, len(labels[:750].unique()))):
        assert len(images) == 200
        assert len(images.mean(dim=(1, 2, 3)).unique()) == classes
    assert torch.equal(tuning, recalibration_images(folder, 200))


def test_a_member_is_trained_with_two_seeds_shipped_and_found_again(run, tmp_path, capsys):
    recipe = ["--epochs", "1", "--batch-size", "256", "--learning-rate", ".1"]
    asked = ["train", "--run", str(run.path), "--genotype", GENOTYPE, *recipe]
    assert main([*asked, "--seeds", "2"]) == 0
    said = capsys.readouterr()
    assert "trained for 1 epoch" in said.out
    assert "2 seeds: " in said.out
    folders = sorted(run.path.glob("trained/*/seed-*"))
    assert [folder.name for folder in folders] == ["seed-0", "seed-1"]
    first = json.loads((folders[0] / "training.json").read_text())
    assert first["settings"]["drop_path_prob"] == RECIPES["short"]["drop_path_prob"]
    assert len((folders[0] / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (folders[0] / "checkpoint.pt").exists()

    assert main(asked) == 0
    again = capsys.readouterr()
    assert f"seed 0: test accuracy {first['test_accuracy']:.2f} %" in again.out
    assert "training" not in again.err

    assert main([*asked, "--inherit"]) == 0
    warm = capsys.readouterr().out
    assert "trained for 1 epoch, from the supernet's weights" in warm
    assert len(list(run.path.glob("trained/*"))) == 2

    out = tmp_path / "trained.onnx"
    assert main(["export", "--run", str(run.path), "--trained", str(folders[0]), "--out", str(out)]) == 0
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert metadata["accuracy_kind"] == "trained for 1 epoch"
    assert metadata["genotype"] == GENOTYPE
    assert float(metadata["accuracy"]) == pytest.approx(first["test_accuracy"], abs=0.1)


def test_stopped_in_its_second_epoch_a_training_goes_on_from_its_folder_bit_equal(run, few):
    steps = iter(range(1000))
    whole = TrainedNetwork.begin(run, run.space.parse(GENOTYPE), SHORT)
    train(whole, run, few, SilentProgress(), lambda: False)
    shutil.copytree(whole.path, run.path / "kept")
    shutil.rmtree(whole.path)
    stopped = TrainedNetwork.begin(run, run.space.parse(GENOTYPE), SHORT)
    with pytest.raises(LutnasError, match=r"stopped after step 11 of 16, everything is saved in .*seed-0"):
        train(stopped, run, few, SilentProgress(), lambda: next(steps) == 11)
    with (stopped.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 16}\n')  # as if killed between the line and the checkpoint
    again = TrainedNetwork.begin(run, run.space.parse(GENOTYPE), SHORT)
    train(again, run, few, SilentProgress(), lambda: False)
    kept = TrainedNetwork.open(run.path / "kept")
    assert again.test_accuracy == kept.test_accuracy
    assert len((again.path / "metrics.jsonl").read_text().splitlines()) == 2
    tensors = [torch.load(directory.path / "weights.pt", weights_only=True) for directory in (again, kept)]
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def test_folders_that_hold_no_finished_training_of_the_run_are_refused(run, digits, tmp_path, capsys):
    assert main(["export", "--run", str(run.path), "--trained", str(tmp_path), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "holds no trained network" in capsys.readouterr().err
    trained = TrainedNetwork.begin(run, run.space.parse(GENOTYPE), SHORT)
    with pytest.raises(WrongUse, match="is not done"):
        trained.network(run, digits)
    trained.finish(networks(digits_space(run))[0], 50.0)
    content = bytearray((trained.path / "weights.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (trained.path / "weights.pt").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"weights\.pt"):
        TrainedNetwork.open(trained.path).network(run, digits)
    (trained.path / "training.json").write_text('{"schema": 11}')
    with pytest.raises(CorruptFile, match=r"training\.json is damaged: space: is missing"):
        TrainedNetwork.open(trained.path)


def test_a_network_of_another_space_is_refused_by_name(run, tmp_path, capsys):
    trained = TrainedNetwork.begin(run, run.space.parse(GENOTYPE), SHORT)
    other = make_space("fbnet", resolution=16, channels=4, depth=1)
    written = json.loads((trained.path / "training.json").read_text())
    written |= {"space": str(other), "genotype": other.format(other.sample(random.Random(0))), "test_accuracy": 50.0}
    (trained.path / "training.json").write_text(json.dumps(written))
    asked = ["export", "--run", str(run.path), "--trained", str(trained.path), "--out", str(tmp_path / "x.onnx")]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert f"is of the space {other}, the run is of {run.space}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_a_batch_that_is_too_small_for_the_auxiliary_head_is_refused(space, few, batch_size):
    settings = replace(SHORT, batch_size=batch_size)
    if batch_size == 4:
        training = Retraining(networks(space), few, settings)
        training.train(stopped=lambda: training.step == 1)
        return
    with pytest.raises(InvalidValue, match=f"batch-size: {batch_size} is not 4 or more"):
        Retraining(networks(space), few, settings)
    without = Retraining(networks(space), few, replace(settings, auxiliary_weight=0.0))
    without.train(stopped=lambda: without.step == 1)


def digits_space(run):
    return run.table.parsed_space
