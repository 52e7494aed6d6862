import csv
import os
import random
from itertools import islice, product
from pathlib import Path

import pytest

from shared.errors import InvalidValue, UnknownName
from shared.spaces import Genotype, NasBench201, make_space, parse_space
from shared.spaces.nas_bench_201 import EDGES, PRIMITIVES_201

SPACE = NasBench201(resolution=32, channels=16, depth=1)
LUTNAS_DATA = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[3] / "shared" / "data"))
ACCURACIES = LUTNAS_DATA / "nas_bench_201" / "accuracy_200_epochs.csv"


def genotype(text: str) -> Genotype:
    return SPACE.parse(text)


def test_every_genotype_survives_its_string_form() -> None:
    for choices in islice(product(PRIMITIVES_201, repeat=len(EDGES)), 0, None, 7):
        assert SPACE.parse(SPACE.format(Genotype(choices))) == Genotype(choices)


@pytest.mark.skipif(not ACCURACIES.exists(), reason=f"needs {ACCURACIES.name} in LUTNAS_DATA")
def test_the_string_form_is_that_of_the_benchmark() -> None:
    with ACCURACIES.open() as lines:
        names = [row["architecture"] for row in csv.DictReader(lines)]
    assert len({SPACE.parse(name) for name in names}) == 15_625
    assert all(SPACE.format(SPACE.parse(name)) == name for name in names[::50])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|",
        "|conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "||none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+",
    ],
)
def test_a_text_that_is_no_genotype_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        SPACE.parse(text)


def test_a_refused_primitive_is_told_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match=r"conv_9x9.*nor_conv_3x3"):
        SPACE.parse("|conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def test_an_op_that_does_not_reach_the_output_counts_nothing() -> None:
    dangling = genotype("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
    assert SPACE.live_slots(dangling) == (3,)
    assert SPACE.canonical(dangling) == SPACE.fastest()
    assert SPACE.op_counts(dangling) == SPACE.op_counts(SPACE.fastest())
    assert SPACE.parameter_count(dangling) == SPACE.parameter_count(SPACE.fastest())


def live_by_paths(choices: tuple[str, ...]) -> set[int]:
    """Slots on a path from node 0 to node 3, found on every path."""
    chosen = {edge: index for index, edge in enumerate(EDGES) if choices[index] != "none"}
    paths = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
    return {chosen[edge] for path in paths if all(edge in chosen for edge in path) for edge in path}


def test_live_slots_are_those_on_a_path_from_input_to_output() -> None:
    for choices in product(("none", "nor_conv_1x1"), repeat=len(EDGES)):
        assert set(SPACE.live_slots(Genotype(choices))) == live_by_paths(choices)


def test_parameters_and_multiply_adds_are_those_of_the_published_skeleton() -> None:
    every_conv = Genotype(("nor_conv_3x3",) * 6)
    published = NasBench201(depth=5)
    assert published.parameter_count(every_conv) == 1_531_546
    assert published.multiply_adds(every_conv) == pytest.approx(220.12e6, rel=1e-4)


def test_sampled_genotypes_are_connected_and_repeat_with_the_seed() -> None:
    sampled = [SPACE.sample(random.Random(7)) for _ in range(50)]
    assert all(map(SPACE.is_connected, sampled))
    assert sampled == [SPACE.sample(random.Random(7)) for _ in range(50)]


def test_a_space_survives_its_string_form_and_an_unknown_one_is_named() -> None:
    assert parse_space(str(SPACE)) == SPACE
    with pytest.raises(UnknownName, match=r"mobile-net.*nas-bench-201"):
        make_space("mobile-net")


@pytest.mark.parametrize(
    ("field", "value"), [("resolution", 30), ("resolution", 0), ("channels", -1), ("depth", 0), ("classes", 0)]
)
def test_a_skeleton_outside_its_domain_is_refused(field: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=field):
        make_space("nas-bench-201", **{field: value})
