"""Which graph: a self-describing reference from which the server builds the ONNX bytes again at any time.

canary:conv-v1                               the reference op that every timing is divided by
chain:8:nor_conv_3x3/16x32x32/16x32x32/s1    one op, repeated
parallel:8:dil_conv_3x3/16x8x8/16x4x4/s2     one op that changes the shape, side by side
kernel:8:Relu/1x16x8x8/1x16x8x8              one kernel of a runtime, repeated; the agent cuts it out of a file
network:nas-bench-201/r32/c16/n1/k10/i3:|…|  a whole network with random weights
model:SHA256                                 a file that someone uploaded
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidValue
from shared.kernels.kernel import Kernel, parse_kernel
from shared.spaces import Genotype, Space, parse_space
from shared.spaces.op_key import OpKey, parse_op_key

CANARIES = ("conv-v1",)
LONGEST_CHAIN = 64


def _check_copies(kind: str, copies: int) -> None:
    if not 1 <= copies <= LONGEST_CHAIN:
        raise InvalidValue(kind, f"{copies} copies are not within 1 to {LONGEST_CHAIN}")


@dataclass(frozen=True)
class CanaryGraph:
    """The reference op."""

    name: str = "conv-v1"

    def __post_init__(self) -> None:
        if self.name not in CANARIES:
            raise InvalidValue("canary", f"'{self.name}' is none of {', '.join(CANARIES)}")

    def __str__(self) -> str:
        return f"canary:{self.name}"


@dataclass(frozen=True)
class ChainGraph:
    """`copies` instances of one op, each fed by the one before."""

    copies: int
    key: OpKey

    def __post_init__(self) -> None:
        _check_copies("chain", self.copies)
        if not self.key.keeps_shape and self.copies > 1:
            raise InvalidValue("chain", f"{self.key} changes its shape and cannot be chained")

    def __str__(self) -> str:
        return f"chain:{self.copies}:{self.key}"


@dataclass(frozen=True)
class ParallelGraph:
    """`copies` instances of one op side by side, each with an input of its own; their outputs are summed.

    With one input for all, a runtime would merge what the branches have in common.
    """

    copies: int
    key: OpKey

    def __post_init__(self) -> None:
        _check_copies("parallel", self.copies)

    def __str__(self) -> str:
        return f"parallel:{self.copies}:{self.key}"


@dataclass(frozen=True)
class KernelGraph:
    """`copies` of what a runtime executes as one kernel, cut out of a file's optimised graph."""

    copies: int
    kernel: Kernel

    def __post_init__(self) -> None:
        _check_copies("kernel", self.copies)

    def __str__(self) -> str:
        return f"kernel:{self.copies}:{self.kernel}"


@dataclass(frozen=True)
class NetworkGraph:
    """A whole network of a space."""

    space: Space
    genotype: Genotype

    def __post_init__(self) -> None:
        self.space.check_network(self.genotype)

    def __str__(self) -> str:
        return f"network:{self.space}:{self.space.format(self.genotype)}"


@dataclass(frozen=True)
class UploadedModel:
    """An ONNX file by its SHA-256."""

    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InvalidValue("model", f"'{self.sha256[:80]}' is not a SHA-256")

    def __str__(self) -> str:
        return f"model:{self.sha256}"


GraphSpec = CanaryGraph | ChainGraph | ParallelGraph | KernelGraph | NetworkGraph | UploadedModel


def parse_graph_spec(text: str) -> GraphSpec:
    """Inverse of `str(graph_spec)`.

    Raises:
        InvalidValue: the text is not a graph reference.
        UnknownName: it names a space that does not exist.
    """
    kind, _, rest = text.partition(":")
    first, _, second = rest.partition(":")
    if kind == "canary":
        return CanaryGraph(rest)
    if kind == "chain" and re.fullmatch("[0-9]{1,3}", first):
        return ChainGraph(int(first), parse_op_key(second))
    if kind == "parallel" and re.fullmatch("[0-9]{1,3}", first):
        return ParallelGraph(int(first), parse_op_key(second))
    if kind == "kernel" and re.fullmatch("[0-9]{1,3}", first):
        return KernelGraph(int(first), parse_kernel(second))
    if kind == "network":
        space = parse_space(first)
        return NetworkGraph(space, space.parse(second))
    if kind == "model":
        return UploadedModel(rest)
    kinds = "canary:, chain:N:, parallel:N:, kernel:N:, network: or model:"
    raise InvalidValue("graph", f"'{text[:120]}' is not {kinds}")
