"""The search spaces by name, and their string form."""

from shared.spaces.darts import Darts
from shared.spaces.fbnet import FBNet
from shared.spaces.mobile import Mobile
from shared.spaces.nas_bench_201 import NasBench201
from shared.spaces.nas_bench_macro import NasBenchMacro
from shared.spaces.own import Own
from shared.spaces.space import SPACES, Genotype, Group, IndependentSlots, Slot, Space, make_space, parse_space

__all__ = [
    "SPACES",
    "Darts",
    "FBNet",
    "Genotype",
    "Group",
    "IndependentSlots",
    "Mobile",
    "NasBench201",
    "NasBenchMacro",
    "Own",
    "Slot",
    "Space",
    "make_space",
    "parse_space",
]
