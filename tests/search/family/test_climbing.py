import dataclasses
import hashlib
import json
import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import pytest

from search.commands.ladder import default_budgets
from search.deploy.export import build_onnx, export, onnx_accuracy, untuned_onnx
from search.deploy.ladder import NOT_TUNED_YET, LadderBuilder, choose_nth, find_ladder
from search.family.family import make_candidates
from search.latency.latency_model import LatencyModel
from search.process.progress import Phase, SilentProgress
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_test_images, tune, tuning_steps
from search.retraining.side_by_side import UPDATES_AT_ONCE
from shared.errors import BudgetTooSmall, CorruptFile, InvalidValue, LutnasError, ServerAway
from shared.jobs import Verification

SHORT = TuningSettings(epochs=0.2, batch_size=64, recalibration_images=256)


class Device:
    """Stands for the agent: loads every file in ONNX Runtime, then answers with the prediction times a factor.

    Args:
        factor: (promise, how often this network was measured before) -> measured over predicted.
    """

    def __init__(self, factor=lambda promise, before: 1.0):
        self.factor = factor
        self.promises = []
        self.files = []

    def __call__(self, content, promise):
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        before = sum(made.genotype == promise.genotype for made in self.promises)
        self.promises.append(promise)
        self.files.append(hashlib.sha256(content).hexdigest())
        measured_ms = promise.predicted_ms * self.factor(promise, before)
        met = measured_ms <= promise.target_ms
        return Verification(measured_ms, measured_ms, measured_ms, 1.1 * measured_ms, 1.1, met, True, ())


def climb(run, device, budgets_ms, tuning=SHORT):
    return LadderBuilder(run, device, tuning, SilentProgress()).build(budgets_ms)


def test_every_rung_promises_bounds_measures_and_ships_a_file_of_that_accuracy(run, digits):
    device = Device()
    rungs = climb(run, device, default_budgets(run, 4))
    assert [rung.met for rung in rungs] == [True] * 4
    assert [rung.target_ms for rung in rungs] == sorted(rung.target_ms for rung in rungs)
    for rung in rungs:
        assert rung.measured_ms <= rung.upper_ms <= rung.target_ms
        assert rung.accuracy_kind == "inherited from the supernet, tuned for 0.2 epochs"
        content = (run.path / rung.onnx).read_bytes()
        assert onnx_accuracy(content, digits) == pytest.approx(rung.accuracy, abs=1e-9)
        assert hashlib.sha256(content).hexdigest() in device.files, "the shipped file itself was measured"
        assert [attempt.step for attempt in rung.attempts] == ["before tuning", "final"]
    written = json.loads((run.path / "ladder.json").read_bytes())
    promised = {"target_ms", "predicted_ms", "upper_ms", "measured_ms", "met"}
    assert all(promised | {"genotype", "accuracy", "accuracy_kind", "onnx"} <= rung.keys() for rung in written)
    assert find_ladder(run.path / "ladder.json", run.space) == rungs


def test_network_that_misses_its_budget_is_replaced_before_it_is_tuned(run):
    (budget_ms,) = default_budgets(run, 1)
    first = climb(run, Device(), [budget_ms])[0].genotype
    device = Device(lambda promise, before: 1.3 if promise.genotype == run.space.format(first) else 1.0)
    (rung,) = climb(run, device, [budget_ms])
    assert rung.met
    assert rung.genotype != first
    assert rung.attempts[0].genotype == first
    assert not rung.attempts[0].met
    excess = rung.attempts[0].measured_ms / budget_ms
    assert rung.upper_ms <= budget_ms / excess, "the next one has to fit a bound that the miss has tightened"
    assert [file.name for file in (run.path / "models").iterdir()] == ["member-01.onnx"]


def test_after_three_networks_the_rung_is_not_met_and_says_so(run):
    (rung,) = climb(run, Device(lambda promise, before: 9.0), [default_budgets(run, 3)[1]])
    assert not rung.met
    assert len({attempt.genotype for attempt in rung.attempts}) == 3
    assert rung.onnx is not None
    assert rung.measured_ms == rung.attempts[-1].measured_ms


def test_shipped_file_that_misses_once_is_measured_again(run):
    budgets_ms = default_budgets(run, 3)[1:2]
    (rung,) = climb(run, Device(lambda promise, before: 1.5 if before == 1 else 1.0), budgets_ms)
    assert rung.met
    assert [attempt.met for attempt in rung.attempts] == [True, False, True]
    assert len({attempt.genotype for attempt in rung.attempts}) == 1


def test_shipped_file_that_misses_twice_is_replaced_by_the_next_network(run):
    budgets_ms = default_budgets(run, 3)[1:2]
    (before,) = climb(run, Device(), budgets_ms)
    slow = Device(lambda promise, seen: 1.5 if promise.genotype == run.space.format(before.genotype) and seen else 1.0)
    (rung,) = climb(run, slow, budgets_ms)
    assert rung.met
    assert rung.genotype != before.genotype
    assert [attempt.step for attempt in rung.attempts] == ["before tuning", "final", "final", "before tuning", "final"]


def test_budgets_that_share_a_network_share_its_tuning_and_its_file(run):
    budget_ms = default_budgets(run, 1)[0]
    rungs = climb(run, Device(), [budget_ms, 1.0001 * budget_ms])
    assert rungs[0].onnx == rungs[1].onnx
    assert len(list((run.path / "models").iterdir())) == 1


def test_what_was_measured_stays_when_the_server_goes_away(run):
    budgets_ms = default_budgets(run, 3)
    device = Device()

    def measure(content, promise):
        if len(device.promises) == 2:
            raise ServerAway("the table server does not answer")
        return device(content, promise)

    with pytest.raises(ServerAway):
        climb(run, measure, budgets_ms)
    kept = find_ladder(run.path / "ladder.json", run.space)
    assert [rung.target_ms for rung in kept] == budgets_ms[:2]
    assert all(rung.met and rung.onnx is None and rung.accuracy_kind == NOT_TUNED_YET for rung in kept)


def test_budget_that_no_network_meets_is_refused_before_anything_is_measured(run):
    device = Device()
    with pytest.raises(BudgetTooSmall):
        climb(run, device, [0.01, 5.0])
    assert device.promises == []
    assert find_ladder(run.path / "ladder.json", run.space) is None


class Impatient(SilentProgress):
    """Interrupts the process, as Ctrl-C does, at the first update of the tuning."""

    @contextmanager
    def phase(self, name, total):
        left = [signal.SIGINT] if name == "tuning members" else []

        def advance(n=1, **fields):
            if left:
                os.kill(os.getpid(), left.pop())

        yield Phase(advance)


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores Ctrl-C, and would tune for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("interruptible")
def test_interrupted_tuning_stops_within_an_update_and_keeps_what_was_measured(run):
    budgets_ms = default_budgets(run, 2)
    with pytest.raises(KeyboardInterrupt):
        LadderBuilder(run, Device(), TuningSettings(epochs=1000), Impatient()).build(budgets_ms)
    assert threading.active_count() == 1
    assert [rung.target_ms for rung in find_ladder(run.path / "ladder.json", run.space)] == budgets_ms


MEASURING_S, UPDATE_S = 4.0, 0.5


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


class Timed(SilentProgress):
    """Keeps lines, and lets time pass with each update of both networks: `slower` so much from the ninth on."""

    def __init__(self, clock, slower):
        self.lines, self.clock, self.slower, self.updates = [], clock, slower, 0
        self.line = self.lines.append

    @contextmanager
    def phase(self, name, total):
        def advance(n=1, **fields):
            if name == "tuning members" and n == 2 * UPDATES_AT_ONCE:
                self.clock.now_s += n / 2 * UPDATE_S * (self.slower if self.updates >= 8 else 1)
                self.updates += n // 2

        yield Phase(advance)


def timed_ladder(run, slower=1.0, factor=lambda promise, before: 1.0):
    """Rungs, progress and clock of a ladder of two budgets that may take 40 s and wants to tune for long."""
    clock, device = Clock(), Device(factor)
    told = Timed(clock, slower)

    def measure(content, promise):
        clock.now_s += MEASURING_S
        return device(content, promise)

    long = TuningSettings(epochs=20, batch_size=64, recalibration_images=256)
    builder = LadderBuilder(run, measure, long, told, seconds=40.0, clock=clock)
    return builder.build(default_budgets(run, 2)), told, clock


@pytest.mark.parametrize(("slower", "updates"), [(1.0, 48), (5.0, 16)])
def test_ladder_ends_in_time_however_slow_the_machine_becomes_and_says_how_long_it_tuned(run, slower, updates):
    rungs, told, clock = timed_ladder(run, slower)
    assert told.updates == updates  # two networks are measured twice: 24 s are left
    assert 140 <= clock.now_s <= 140 + UPDATES_AT_ONCE * UPDATE_S * slower
    (line,) = told.lines
    steps = int(line.split()[-2])
    assert line == f"time is up: each network had {updates} of {steps} updates"
    for rung in rungs:
        assert rung.met
        assert rung.accuracy_kind == f"inherited from the supernet, tuned for {20 * updates / steps:.3g} epochs"


@pytest.mark.parametrize(("left_s", "nth"), [(float("inf"), 1), (60.0, 1), (25.0, 4), (3.0, 10), (-5.0, 10)])
def test_share_of_the_test_images_fits_the_time_and_a_tenth_stays_of_ten_thousand(left_s, nth):
    assert choose_nth(100.0, left_s, 10_000) == nth
    assert choose_nth(100.0, left_s, 300) == 1


def test_ladder_out_of_time_tries_no_other_network_and_says_so(run):
    rungs, told, _ = timed_ladder(run, 100.0, lambda promise, before: 1.0 if before == 0 else 9.0)
    assert [[attempt.met for attempt in rung.attempts] for rung in rungs] == [[True, False], [True, False]]
    assert told.lines[-1] == "time is up: 1 of the missed budgets get no other network"  # the smallest has none left


def test_damaged_ladder_is_named(run):
    (run.path / "ladder.json").write_text('[{"target_ms": 1}]')
    with pytest.raises(CorruptFile, match=r"ladder\.json is damaged"):
        find_ladder(run.path / "ladder.json", run.space)


def tuned(run, images, genotype, settings):
    network = run.supernet().derive(genotype)
    tune(network, TuningImages(images, settings), settings, tuning_steps(images, settings))
    return network


def test_tuning_improves_the_inherited_weights_and_repeats_exactly(reading, digits):
    space = reading.table.parsed_space
    genotype = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
    inherited = tuned(reading, digits, genotype, TuningSettings(epochs=0, recalibration_images=256))
    settings = TuningSettings(epochs=3, batch_size=32, recalibration_images=256)
    once, again = (tuned(reading, digits, genotype, settings) for _ in range(2))
    assert accuracy_on_test_images(once, digits) > accuracy_on_test_images(inherited, digits) + 10
    for name, tensor in once.state_dict().items():
        assert np.array_equal(tensor.numpy(), again.state_dict()[name].numpy()), name


@pytest.mark.parametrize(("epochs", "as_they_are"), [(0.5, True), (9.0, True), (10.0, False)])
def test_short_tuning_takes_training_images_as_they_are_and_a_long_one_shifts_them(digits, epochs, as_they_are):
    stream = TuningImages(digits, TuningSettings(epochs=epochs)).stream
    batches = [stream.batch(index) for index in range(3)]
    known = {image.numpy().tobytes() for image in stream._normalise(stream._images.float())}
    taken = [image.contiguous().numpy().tobytes() for images, _ in batches for image in images]
    assert all(image in known for image in taken) == as_they_are
    assert len(stream._labels) == len(digits.train_labels), "all training images, and no test image"


def test_short_tuning_has_small_batches_unless_others_are_asked_for():
    short, long = TuningSettings(epochs=0.25), TuningSettings(epochs=1.0)
    assert (short.batch_size, short.learning_rate) == (32, 0.05)
    assert (long.batch_size, long.learning_rate) == (64, 0.2)
    own = dataclasses.replace(long, epochs=0.25, batch_size=8, learning_rate=0.1)
    assert (own.batch_size, own.learning_rate) == (8, 0.1)


@pytest.mark.parametrize("epochs", [-1.0, float("nan"), float("inf")])
def test_number_of_epochs_that_is_none_is_refused(epochs):
    with pytest.raises(InvalidValue, match="tune-epochs"):
        TuningSettings(epochs=epochs)


def test_exported_file_says_what_it_takes_what_it_is_and_what_was_promised(reading, digits):
    table = reading.table
    genotype = table.parsed_space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|")
    (candidate,) = make_candidates(LatencyModel(table), [genotype], 0.99)
    network = tuned(reading, digits, genotype, TuningSettings(epochs=0))
    model = export(network, candidate, table, digits, "inherited")
    assert model.accuracy == pytest.approx(accuracy_on_test_images(network, digits))
    said = {entry.key: entry.value for entry in onnx.load_from_string(model.content).metadata_props}
    assert said["input_layout"] == "NCHW"
    assert said["input_size"] == "16"
    assert json.loads(said["class_names"]) == [str(digit) for digit in range(10)]
    assert {"mean", "std"} <= said.keys()
    assert said["genotype"] == table.parsed_space.format(genotype)
    assert (said["space"], said["device"], said["table_hash"]) == (table.space, "testbed", table.hash)
    assert float(said["upper_ms"]) == pytest.approx(candidate.upper_ms, rel=1e-4)
    assert float(said["accuracy"]) == pytest.approx(model.accuracy, abs=0.01)
    assert said["accuracy_kind"] == model.accuracy_kind == "inherited"


def test_accuracy_of_a_file_is_that_of_running_it_one_image_at_a_time(reading, digits):
    genotype = reading.table.parsed_space.fastest()
    content = build_onnx(tuned(reading, digits, genotype, SHORT))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    pixels = digits.preprocessing.apply(digits.test_images).numpy()
    answers = [int(session.run(None, {"input": pixel[None]})[0].argmax()) for pixel in pixels]
    expected = 100 * np.mean(np.array(answers) == digits.test_labels.numpy())
    assert onnx_accuracy(content, digits) == pytest.approx(expected)


def test_file_that_does_not_classify_as_torch_did_is_not_written(reading, digits):
    genotype = reading.table.parsed_space.fastest()
    (candidate,) = make_candidates(LatencyModel(reading.table), [genotype], 0.99)
    network = tuned(reading, digits, genotype, TuningSettings(epochs=0))
    network.register_forward_hook(lambda module, images, logits: -logits)  # what no file can know
    with pytest.raises(LutnasError, match="nothing was written"):
        export(network, candidate, reading.table, digits, "inherited")


def test_untuned_network_computes_finite_numbers(reading):
    space = reading.table.parsed_space
    content = untuned_onnx(reading.supernet(), space.fastest())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal((1, 1, 16, 16), dtype=np.float32)
    assert np.isfinite(session.run(None, {"input": image})[0]).all()
