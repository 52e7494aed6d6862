"""Properties of every strategy of the registry, in every space."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from search.strategies import STRATEGIES, Bench, SearchStopped, parse_strategy, split_strategies
from search.strategies.bilevel_loop import CHECKPOINT, Learner, OptimizerSettings, copy_state, run_updates
from search.strategies.dartscc import DartsCC
from search.strategies.discretize import strongest
from shared.errors import CorruptFile, InvalidValue, LutnasError, UnknownName
from shared.spaces import make_space

FEWER_SEARCHES = {
    "fbnet": ("fbnet:rounds=1",),
    "proxylessnas": ("proxylessnas:rounds=1", "proxylessnas:latency=reward,samples=2"),
    "dca-nas": ("dca-nas:runs=1,graph_points=2",),
}
ALPHAS = tuple(
    text for name in STRATEGIES if not STRATEGIES[name].uses_one_shot for text in FEWER_SEARCHES.get(name, (name,))
)


class StopAfter:
    """Asks to stop after so many calls."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("text", [text for text in ALPHAS if text != "dartscc"])
def test_a_resumed_search_ends_with_the_same_networks(text, make_bench, space, tmp_path):
    def bench_of(folder: str, **settings: StopAfter) -> Bench:
        bench = make_bench(space, tmp_path / folder, **settings)
        return replace(bench, budgets_ms=bench.budgets_ms[1:2])

    bench, strategy = bench_of("whole"), parse_strategy(text).strategy
    whole = strategy.search(bench)
    with pytest.raises(SearchStopped):
        strategy.search(bench_of("parts", stopped=StopAfter(3)))
    assert strategy.search(bench_of("parts")) == whole
    assert whole.training_images > 0
    for proposal in whole.proposals:
        assert space.is_connected(proposal.genotype)
        assert proposal.budget_ms is None or proposal.budget_ms in bench.budgets_ms


def test_a_resumed_default_search_returns_the_same_family(make_bench, tmp_path):
    """In one space: only the resumed run directory differs from other strategies."""
    space, strategy = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1), DartsCC()
    with pytest.raises(SearchStopped):
        strategy.search(make_bench(space, tmp_path / "parts", stopped=StopAfter(3)))
    whole = strategy.search(make_bench(space, tmp_path / "whole"))
    assert strategy.search(make_bench(space, tmp_path / "parts")) == whole
    assert 1 < len(whole.proposals) <= whole.evaluations <= 8


def test_interrupted_updates_leave_the_same_bits(make_bench, space, tmp_path):
    class Count:
        """A sum that depends on the order of its numbers."""

        def __init__(self) -> None:
            self.value = torch.zeros(1)

        def state_dict(self):
            return {"value": self.value}

        def load_state_dict(self, state):
            self.value = state["value"]

    def count(folder: str, stopped=lambda: False) -> float:
        counter = Count()

        def update(step: int) -> dict[str, float]:
            counter.value = counter.value * 1.01 + step
            return {"loss": 0.0}

        run_updates(make_bench(space, tmp_path / folder, stopped=stopped), "count", 9, {"count": counter}, update)
        return float(counter.value)

    with pytest.raises(SearchStopped, match="after update 3 of 9"):
        count("parts", StopAfter(3))
    with pytest.raises(SearchStopped, match="after update 8 of 9"):
        count("parts", StopAfter(5))
    assert count("parts") == count("whole") != 0


def test_a_copied_state_is_independent():
    def train(module: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    pairs = []
    for _ in range(2):
        module = torch.nn.Linear(2, 2)
        pairs.append({"module": module, "optimizer": torch.optim.SGD(module.parameters(), 0.1, 0.9)})
    source, target = pairs
    train(**source)
    copy_state(source, target)
    assert torch.equal(source["module"].weight, target["module"].weight)
    momentum = source["optimizer"].state[source["module"].weight]["momentum_buffer"].clone()
    train(**target)
    assert not torch.equal(source["module"].weight, target["module"].weight)
    assert torch.equal(source["optimizer"].state[source["module"].weight]["momentum_buffer"], momentum)


def test_a_checkpoint_of_another_search_is_refused(make_bench, space, tmp_path):
    module = torch.nn.Linear(2, 2)
    run_updates(make_bench(space, tmp_path), "one", 1, {"module": module}, lambda step: {"loss": 0.0})
    with pytest.raises(CorruptFile, match="another search"):
        run_updates(make_bench(space, tmp_path, seed=1), "one", 1, {"module": module}, lambda step: {"loss": 0.0})


def test_a_loss_that_is_not_finite_stops_the_search_and_keeps_the_last_checkpoint(make_bench, space, tmp_path):
    module = torch.nn.Linear(2, 2)
    losses = iter([1.0, 1.0, 1.0, float("nan")])
    with pytest.raises(LutnasError, match="diverged at update 3"):
        run_updates(make_bench(space, tmp_path), "one", 9, {"module": module}, lambda step: {"loss": next(losses)})
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 2


def test_weights_stay_as_they_are_where_a_gradient_is_not_finite(make_bench, space, tmp_path):
    learner = Learner(OptimizerSettings(), make_bench(space, tmp_path))
    before = [weight.detach().clone() for weight in learner.weights]
    loss = sum(torch.sqrt((weight - weight.detach()).abs()).sum() for weight in learner.weights)  # 0, slope infinite
    assert loss == 0
    assert math.isnan(learner.update_weights(loss, 0.1))
    assert all(torch.equal(weight, old) for weight, old in zip(learner.weights, before, strict=True))


def test_derived_networks_of_darts_keep_two_edges_per_node_for_any_alpha_of_none(space):
    alphas = torch.from_numpy(np.random.default_rng(0).normal(size=(len(space.slots), len(space.slots[0].primitives))))
    if "none" in space.slots[0].primitives and space.groups:
        alphas[:, space.slots[0].primitives.index("none")] += 5
    found = strongest(space, alphas)
    space.check(found)
    if space.groups:
        assert space.is_connected(found)
    else:
        assert [slot.primitives.index(c) for slot, c in zip(space.slots, found.choices, strict=True)] == (
            alphas.argmax(dim=1).tolist()
        )


def test_options_have_a_canonical_order():
    assert parse_strategy("darts").text == parse_strategy("darts:order=1").text == "darts"
    assert parse_strategy("darts:momentum=0.8,order=2").text == "darts:order=2,momentum=0.8"
    assert parse_strategy("darts:order=2").strategy.order == 2
    assert parse_strategy("dca-nas:last_weight_lr=0").text == "dca-nas"
    assert split_strategies("darts:order=2,momentum=.8, gdas,darts") == ["darts:order=2,momentum=.8", "gdas", "darts"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("dart", UnknownName, "known: .*darts"),
        ("darts:depth=2", UnknownName, "option of darts 'depth'"),
        ("darts:order=two", InvalidValue, "darts:order"),
        ("gdas:tau_last=0", InvalidValue, "not above 0"),
        ("gdas:tau_last=inf", InvalidValue, "gdas:tau_last: inf is not finite"),
        ("darts:weight_lr=-1", InvalidValue, "darts:weight_lr: -1 is not above 0"),
        ("darts:alpha-weight-decay=-1", InvalidValue, "0 or more"),
        ("darts:order=1.5", InvalidValue, "no whole number"),
        ("dartscc:hypernetwork=mpl", UnknownName, "known: .*mlp"),
    ],
)
def test_wrong_strategies_and_options_are_refused_by_name(text, error, words):
    with pytest.raises(error, match=words):
        parse_strategy(text)
