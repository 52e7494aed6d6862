import hashlib
import itertools
import random
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from search.data import load_images
from search.decoding.decoding import representative
from search.ranking.additive_fit import fit_additive
from search.ranking.expressivity import UntrainedSupernet, entropy, expressivity
from search.ranking.scoring import Judge, Score, Scorer, ScoringSettings, longest_path, rank_all, scoring_images
from search.supernet import Supernet
from shared.spaces import make_space

CELLS = make_space("nas-bench-201", depth=1)
CHAIN = make_space("nas-bench-macro", channels=4, depth=2)
SETTINGS = ScoringSettings(ranking_images=60, untrained_images=32)


@pytest.fixture(scope="module")
def supernet(space):
    torch.manual_seed(0)
    return Supernet(space)


@pytest.fixture(scope="module")
def images(space):
    image_set = load_images("digits", space.resolution, space.image_channels)
    return scoring_images(image_set, seed=0, resolution=8, settings=SETTINGS)


@pytest.fixture(scope="module")
def genotypes(space):
    draws = random.Random(3)
    return [space.fastest(), *(space.sample(draws) for _ in range(6))]


def scorer(supernet, images, path, workers=1, untrained_space=None):
    def make_judge():
        space = untrained_space or supernet.space
        return Judge(supernet, images, UntrainedSupernet(space, 0), space, "fp32")

    return Scorer(supernet.space, path, fingerprint(supernet), make_judge, workers)


def fingerprint(supernet):
    return hashlib.sha256(next(supernet.parameters()).detach().numpy().tobytes()).hexdigest()


def test_score_does_not_depend_on_other_networks_order_or_workers(supernet, images, genotypes, tmp_path):
    alone = [scorer(supernet, images, tmp_path / f"{i}.json").score([g])[0] for i, g in enumerate(genotypes)]
    together = scorer(supernet, images, tmp_path / "two.json", workers=2).score(genotypes[::-1])[::-1]
    assert together == alone


def test_known_scores_are_read_back_without_images(supernet, images, genotypes, tmp_path):
    first = scorer(supernet, images, tmp_path / "scores.json").score(genotypes)

    def no_judge():
        raise AssertionError("nothing is left to score")

    again = Scorer(supernet.space, tmp_path / "scores.json", fingerprint(supernet), no_judge)
    assert again.score(genotypes) == first


def test_scores_of_another_supernet_are_dropped(supernet, images, genotypes, space, tmp_path):
    path = tmp_path / "scores.json"
    scorer(supernet, images, path).score(genotypes[:2])
    torch.manual_seed(1)
    other = Supernet(space)
    assert scorer(other, images, path).score(genotypes[:2]) == scorer(other, images, tmp_path / "b").score(
        genotypes[:2]
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
def test_networks_are_scored_again_after_a_damaged_score_file(supernet, images, genotypes, tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    assert scorer(supernet, images, path).score(genotypes[:1]) == scorer(supernet, images, path).score(genotypes[:1])


def test_networks_that_compute_the_same_are_scored_once(supernet, images, space, tmp_path):
    dead = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    done = []
    score, other = scorer(supernet, images, tmp_path / "s.json").score([dead, space.fastest()], done.append)
    assert score == other
    assert sum(done) == 2


def test_scoring_leaves_torchs_random_generator_alone(supernet, images, genotypes, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scorer(supernet, images, tmp_path / "s.json").score(genotypes[:2])
    assert torch.equal(torch.get_rng_state(), before)


def test_scoring_leaves_the_callers_thread_count_alone(supernet, images, genotypes, tmp_path):
    before = torch.get_num_threads()
    scorer(supernet, images, tmp_path / "s.json", workers=2).score(genotypes[:2])
    assert torch.get_num_threads() == before
    assert threading.active_count() == 1


def test_likelihood_is_that_of_the_path_with_the_ranking_images_statistics(supernet, images, genotypes, tmp_path):
    for genotype in genotypes:
        with torch.no_grad():
            logits = supernet.train()(images.ranking, representative(supernet.space, genotype))
        (score,) = scorer(supernet, images, tmp_path / "s.json").score([genotype])
        assert score.nll == pytest.approx(float(torch.nn.functional.cross_entropy(logits, images.labels)), rel=1e-5)


def test_another_form_of_the_same_function_has_the_same_score(supernet, images, space, tmp_path):
    direct = space.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    detour = space.parse("|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|")
    assert space.signature(direct) == space.signature(detour)
    alone = scorer(supernet, images, tmp_path / "a.json").score([detour])
    assert alone == scorer(supernet, images, tmp_path / "b.json").score([direct])


def test_entropy_is_that_of_the_shares_of_the_principal_components():
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(50, 3, 8, 8, generator=draws) * torch.tensor([3.0, 2.0, 1.0])[:, None, None]
    points = features.movedim(1, -1).reshape(-1, 3).numpy()
    variances = np.linalg.svd(points - points.mean(axis=0), compute_uv=False).astype(float) ** 2
    shares = variances / variances.sum()
    assert float(entropy(features)) == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-5)


def test_entropy_lies_between_0_and_the_logarithm_of_the_channels():
    alike = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(entropy(alike.expand(-1, 4, -1, -1))) == pytest.approx(0, abs=1e-5)
    assert float(entropy(torch.ones(4, 8, 2, 2))) == 0
    assert float(entropy(torch.randn(4096, 4, 2, 2))) == pytest.approx(np.log(4), rel=1e-3)


def test_features_that_are_not_finite_have_no_entropy():
    features = torch.randn(2, 4, 3, 3)
    features[0, 1, 2, 2] = torch.inf
    assert entropy(features).isnan()


def test_expressivity_sums_over_the_inputs_of_fixed_ops_without_the_image(space):
    untrained, images = UntrainedSupernet(space, seed=0), torch.randn(16, 1, 16, 16)
    read = []
    supernet = untrained._supernet
    for step in space.wiring(space.fastest()):
        if step.slot is None and step.key is not None and step.name != "stem.":
            supernet._ops[step.name].register_forward_pre_hook(lambda _, given: read.append(float(entropy(given[0]))))
    score = expressivity(untrained.paths(images), space, space.fastest())
    assert len(read) == 3, "two reductions and the classifier"
    assert score == pytest.approx(sum(read), rel=1e-6)


def test_stacked_identity_cells_score_lower_with_depth(space):
    images = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    adds = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    fallen = []
    for depth in (1, 5):
        deep = replace(space, depth=depth)
        paths = UntrainedSupernet(deep, seed=0).paths(images)
        fallen.append(expressivity(paths, deep, space.fastest()) - expressivity(paths, deep, space.parse(adds)))
    assert fallen[1] > fallen[0] > 0


def test_untrained_networks_have_the_requested_depth(supernet, images, genotypes, space, tmp_path):
    deep = ScoringSettings(untrained_depth=3).untrained_space(space)
    assert deep == replace(space, depth=3)
    assert ScoringSettings().untrained_space(space) == space
    shallow = scorer(supernet, images, tmp_path / "a.json").score(genotypes)
    scores = scorer(supernet, images, tmp_path / "b.json", untrained_space=deep).score(genotypes)
    expected = expressivity(UntrainedSupernet(deep, seed=0).paths(images.untrained), deep, genotypes[-1])
    assert scores[-1].expressivity == pytest.approx(expected, rel=1e-9)
    assert [score.nll for score in scores] == [other.nll for other in shallow]
    assert [score.expressivity for score in scores] != [other.expressivity for other in shallow]


def ranks_of(scores, space=CELLS):
    return rank_all(space, [space.fastest()] * len(scores), scores).tolist()


def test_places_are_multiplied_and_the_best_has_the_lowest_rank():
    scores = [
        Score(nll=0.5, accuracy=80.0, expressivity=2.0, parameters=1000, depth=1),  # places 1, 1, 1.5
        Score(nll=0.3, accuracy=70.0, expressivity=4.0, parameters=3000, depth=1),  # 3, 3, 3
        Score(nll=0.4, accuracy=90.0, expressivity=3.0, parameters=1000, depth=1),  # 2, 2, 1.5
    ]
    assert ranks_of(scores) == [3.0, 1.0, 2.0]
    assert ranks_of([scores[0], scores[0], scores[1]]) == [2.5, 2.5, 1.0]


def test_the_worst_place_weighs_more_than_in_a_mean_of_ranks():
    even = Score(nll=0.5, accuracy=0.0, expressivity=2.0, parameters=200, depth=1)
    lopsided = Score(nll=0.3, accuracy=0.0, expressivity=1.0, parameters=300, depth=1)  # places 3, 1, 3 against 2, 2, 2
    third = Score(nll=0.6, accuracy=0.0, expressivity=3.0, parameters=100, depth=1)  # 1, 3, 1
    assert ranks_of([even, lopsided, third]) == [2.0, 1.0, 3.0]
    assert ranks_of([even, replace(lopsided, nll=0.5), third])[0] == 1.0


@pytest.mark.parametrize("space", [CELLS, CHAIN], ids=str)
def test_network_that_diverged_ranks_last_by_likelihood(space):
    ranks = ranks_of([Score(float("nan"), 10.0, 5.0, 10, 1), Score(2.0, 20.0, 5.0, 10, 1)], space)
    assert ranks[1] < ranks[0]


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", 0),
        ("|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|", 0),
        ("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|nor_conv_1x1~1|none~2|", 2),
        ("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|", 3),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|skip_connect~1|avg_pool_3x3~2|", 1),
    ],
)
def test_the_longest_path_counts_ops_with_weights_in_a_row(name, length):
    cells = replace(CELLS, depth=2)
    assert longest_path(cells, cells.parse(name)) == 3 * 2 * length  # two cells in each of three stages


def test_in_a_chain_the_longest_path_is_every_layer_that_is_no_skip():
    for digits in itertools.product("012", repeat=len(CHAIN.slots)):
        genotype = CHAIN.parse("".join(digits))
        assert longest_path(CHAIN, genotype) == sum(choice != CHAIN.skip for choice in genotype.choices)


def test_of_two_cells_alike_in_all_else_the_deeper_is_better():
    wide = CELLS.parse("|none~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|skip_connect~2|")
    deep = CELLS.parse("|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
    assert CELLS.parameter_count(wide) == CELLS.parameter_count(deep)
    scores = [Score(1.0, 50.0, 2.0, 10, longest_path(CELLS, genotype)) for genotype in (wide, deep)]
    assert rank_all(CELLS, [wide, deep], scores).tolist() == [2.0, 1.0]


def test_nothing_to_rank_gives_no_ranks():
    assert rank_all(CELLS, [], []).shape == (0,)


def in_chain(name, nll, parameters=100, expressivity=1.0):
    genotype = CHAIN.parse(name)
    return genotype, Score(nll, 50.0, expressivity, parameters, longest_path(CHAIN, genotype))


def test_in_a_chain_depth_counts_and_size_does_not():
    """Wide late layers hold the most parameters of a chain, and say little about its accuracy."""
    deep = in_chain("11111", 1.0, parameters=100, expressivity=1.0)
    large = in_chain("00022", 1.0, parameters=900, expressivity=2.0)
    assert rank_all(CHAIN, *zip(deep, large, strict=True)).tolist() == [1.0, 2.0]


def test_a_chain_is_ranked_also_by_what_its_layers_are_worth_in_other_networks():
    """The noise of single networks is smaller in the sum over their layers."""
    draws = np.random.default_rng(0)
    genotypes = [CHAIN.parse("".join(digits)) for digits in itertools.product("012", repeat=len(CHAIN.slots))]
    true = np.array([sum({"identity": 0, "k3_e3": 1.0, "k5_e6": 1.2}[name] for name in g.choices) for g in genotypes])
    noisy = true + draws.normal(0, 0.8, len(true))
    scores = [Score(float(-value), 50.0, 1.0, 10, depth=1) for value in noisy]
    by_likelihood = kendalltau(noisy, true).statistic
    assert kendalltau(-rank_all(CHAIN, genotypes, scores), true).statistic > by_likelihood + 0.1


def test_an_additive_fit_finds_what_each_choice_is_worth():
    space, draws = CHAIN, np.random.default_rng(1)
    genotypes = [space.sample(random.Random(seed)) for seed in range(80)]
    worth = draws.normal(size=(len(space.slots), len(space.candidates)))
    columns = np.array([[space.candidates.index(name) for name in genotype.choices] for genotype in genotypes])
    values = 7 + worth[np.arange(len(space.slots)), columns].sum(axis=1)
    fit = fit_additive(space, genotypes, values)
    assert fit.fitted == pytest.approx(values, abs=0.1)
    within = fit.worth - fit.worth.mean(axis=1, keepdims=True)
    assert within == pytest.approx(worth - worth.mean(axis=1, keepdims=True), abs=0.1)


def test_an_additive_fit_to_noise_explains_nothing_of_networks_that_it_did_not_see():
    genotypes = [CHAIN.sample(random.Random(seed)) for seed in range(40)]
    noise = np.random.default_rng(0).normal(size=40)
    assert fit_additive(CHAIN, genotypes, noise).fitted.std() < 0.6 * noise.std()
    assert fit_additive(CHAIN, genotypes, np.ones(40)).fitted == pytest.approx(np.ones(40))
    assert fit_additive(CHAIN, genotypes[:1], noise[:1]).fitted == pytest.approx(noise[:1])
