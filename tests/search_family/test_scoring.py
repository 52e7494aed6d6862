import random
import threading

import numpy as np
import pytest
import torch

from search.data import load_images
from search.enumeration import representative
from search.naswot import UntrainedSupernet, naswot
from search.ranking import mean_ranks
from search.scoring import Score, Scorer, ScoringSettings, scoring_images
from search.supernet import Supernet

SETTINGS = ScoringSettings(ranking_images=60, naswot_images=32)


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


def scorer(supernet, images, path, **options):
    return Scorer(supernet, lambda: images, path, seed=0, **options)


def test_score_does_not_depend_on_company_order_or_number_of_workers(supernet, images, genotypes, tmp_path):
    alone = [scorer(supernet, images, tmp_path / f"{i}.json").score([g])[0] for i, g in enumerate(genotypes)]
    together = scorer(supernet, images, tmp_path / "two.json", workers=2).score(genotypes[::-1])[::-1]
    assert together == alone


def test_what_was_scored_is_read_back_and_no_image_is_needed(supernet, images, genotypes, tmp_path):
    first = scorer(supernet, images, tmp_path / "scores.json").score(genotypes)

    def no_images():
        raise AssertionError("nothing is left to score")

    assert Scorer(supernet, no_images, tmp_path / "scores.json", seed=0).score(genotypes) == first


def test_scores_of_another_supernet_are_not_believed(supernet, images, genotypes, space, tmp_path):
    path = tmp_path / "scores.json"
    scorer(supernet, images, path).score(genotypes[:2])
    torch.manual_seed(1)
    other = Supernet(space)
    assert scorer(other, images, path).score(genotypes[:2]) == scorer(other, images, tmp_path / "b").score(
        genotypes[:2]
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
def test_damaged_file_of_scores_costs_time_but_nothing_else(supernet, images, genotypes, tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    assert scorer(supernet, images, path).score(genotypes[:1]) == scorer(supernet, images, path).score(genotypes[:1])


def test_networks_that_compute_the_same_are_scored_once(supernet, images, space, tmp_path):
    dead = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    done = []
    one, other = scorer(supernet, images, tmp_path / "s.json").score([dead, space.fastest()], done.append)
    assert one == other
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


def test_naswot_is_the_log_determinant_of_agreements_between_codes(space):
    untrained, images = UntrainedSupernet(space, seed=0), torch.randn(6, 1, 16, 16)
    codes = []
    relu = torch.nn.functional.relu

    class Recording(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is relu:
                codes.append((args[0].flatten(1) > 0).numpy())
            return function(*args, **(kwargs or {}))

    with Recording():
        score = naswot(untrained.paths(images), space, space.fastest())
    assert len(codes) == 5, "two residual blocks of two ReLUs each, and the classifier's"
    units = np.concatenate(codes, axis=1)
    agreements = (units[:, None, :] == units[None, :, :]).sum(axis=2)
    assert score == pytest.approx(np.linalg.slogdet(agreements.astype(float))[1], rel=1e-6)


def test_rank_is_the_mean_of_three_and_the_best_has_the_lowest():
    scores = [
        Score(nll=0.5, accuracy=80.0, naswot=100.0, parameters=1000),
        Score(nll=0.3, accuracy=70.0, naswot=120.0, parameters=3000),
        Score(nll=0.4, accuracy=90.0, naswot=110.0, parameters=1000),
    ]
    assert mean_ranks(scores).tolist() == pytest.approx([(3 + 3 + 2.5) / 3, 1.0, (2 + 2 + 2.5) / 3])


def test_network_that_diverged_ranks_last_by_likelihood():
    scores = [Score(float("nan"), 10.0, 5.0, 10), Score(2.0, 20.0, 5.0, 10)]
    ranks = mean_ranks(scores)
    assert ranks[1] < ranks[0]


def test_nothing_to_rank_gives_no_ranks():
    assert mean_ranks([]).shape == (0,)
