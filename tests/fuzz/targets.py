"""What is hunted: how its inputs are made, and what must hold for each of them."""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import httpx
from hypothesis import strategies as st

from shared.errors import LutnasError
from shared.spaces import make_space
from shared.spaces.primitives import INVERTED_RESIDUALS
from shared.spaces.space import SPACES

MIB = 1 << 20
GRAPH_MB = 32
"""Setting `max_graph_mb` of the server that is tried."""
Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        examples: inputs, made from those of the corpus or anew.
        check: raises for an input that fails.
        most_bytes: memory that an input may take, 1.5 times the limit that the product names.
        by_line: a file of the corpus holds an input a line.
    """

    examples: Callable[[list[bytes]], st.SearchStrategy[bytes]]
    check: Check
    most_bytes: int
    by_line: bool = False


# --- inputs

NUMBERS = ("0", "1", "2", "3", "7", "8", "16", "31", "32", "64", "65", "96", "255", "1000", "4096", "65536", "1000003")
NUMBERS += ("16000001", "99999999", "999999999", "2147483648", "9223372036854775807", "99999999999999999999", "-1", "٣")
numbers = st.sampled_from(NUMBERS) | st.integers(0, 70).map(str)
small = st.integers(1, 64).map(str)
words = st.sampled_from([*INVERTED_RESIDUALS, "skip_connect", "nor_conv_3x3", "avg_pool_3x3", "sep_conv_5x5"]) | (
    st.sampled_from(["max_pool_3x3", "dil_conv_5x5", "residual_block", "classifier", "pool_linear", "identity", "none"])
)


def damaged(known: list[bytes]) -> st.SearchStrategy[bytes]:
    """Known inputs with pieces that are cut, doubled, moved, replaced or taken from another."""
    return st.builds(_damage, st.sampled_from(known or [b""]), st.sampled_from(known or [b""]), st.randoms())


def _damage(content: bytes, other: bytes, random_: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        at, length = random_.randrange(len(made) + 1), random_.choice((1, 1, 2, 4, 8, 64))
        piece = bytes(made[at : at + length])
        start = random_.randrange(len(other) + 1)
        made[at : at + random_.choice((0, length))] = random_.choice(
            (
                b"",
                piece * 2,
                piece[::-1],
                random_.randbytes(length),
                bytes([random_.choice((0, 1, 127, 128, 255))]) * length,
                other[start : start + length],
                random_.choice(NUMBERS).encode(),
                random_.choice(
                    (b"null", b"[]", b"{}", b'""', b"1e999", b"NaN", b"-0.0", b"\xed\xa0\x80", b"\n", b",", b":")
                ),
            )
        )
    return bytes(made)


shape = st.tuples(numbers, numbers, numbers).map("x".join)
small_shape = st.tuples(small, small, small).map("x".join)
op_key = st.one_of(
    st.tuples(words, st.one_of(small_shape, shape)).map(lambda made: f"{made[0]}/{made[1]}/{made[1]}/s1"),
    st.builds("{}/{}/{}/s{}".format, words, small_shape, small_shape, st.sampled_from("12345")),
    st.builds("{}/{}/{}/s{}".format, words, shape, shape, numbers),
)


@st.composite
def network(draw: st.DrawFn) -> str:
    """A network of a space, or nearly."""
    name, depth = draw(st.sampled_from(sorted(SPACES))), draw(st.sampled_from([3, 5]))
    skeleton = [draw(st.one_of(small, small, numbers)) for _ in range(5)]
    skeleton[2] = draw(st.sampled_from([str(depth)] * 3 + skeleton[2:3]))
    sides = "/".join(letter + side for letter, side in zip("rcnki", skeleton, strict=True))
    space, genotype = make_space(name, depth=depth), draw(st.randoms())
    return f"{name}/{sides}:{space.format(space.sample(genotype))}"


value = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "w"]),
    st.lists(numbers, min_size=1, max_size=5).map("x".join) | st.just("s"),
    st.sampled_from(["", "", ".i64", ".u8", ".seq"]),
)
kernel = st.builds(
    "{}/{}/{}{}".format,
    st.sampled_from(["Conv", "nchwc.Conv", "Gemm", "MatMul", "LSTM", "Concat", "Relu", "ConvTranspose", "QLinearConv"]),
    st.lists(value | st.just("_"), max_size=6).map(",".join),
    st.lists(value | st.just("_"), max_size=3).map(",".join),
    st.sampled_from(
        ["", "/group=2", "/group=99999999999", "/dilations=0x0", "/transA=1", "/activation=Relu;strides=2x2"]
    ),
)
spec = st.one_of(
    st.builds("{}:{}:{}".format, st.sampled_from(["chain", "parallel"]), st.one_of(small, numbers), op_key),
    st.builds("network:{}".format, network()),
    st.builds("kernel:{}:{}".format, small, kernel),
    st.builds("{}:{}".format, st.sampled_from(["canary", "model", "", "kernel"]), st.text(max_size=80)),
)


# --- /v1/graph and /v1/plan, asked of a real server


@contextmanager
def asking(path: str, make: st.SearchStrategy[str]) -> Iterator[Target]:
    """A route that anybody may ask: inputs are query strings."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "server"))
    from conftest import running

    with tempfile.TemporaryDirectory() as folder, running(Path(folder), max_graph_mb=GRAPH_MB) as api:

        def check(example: bytes) -> None:
            query = "".join(
                letter if "!" <= letter <= "~" else f"%{ord(letter):02x}" for letter in example.decode("latin-1")
            )
            answer = api.http.get(f"{path}?{query}")
            assert answer.status_code < 500, f"{answer.status_code} {answer.text[:300]} for {query[:300]}"
            if answer.status_code != 200:
                assert "Traceback" not in answer.text
                assert answer.json()["error"]["message"]

        texts = make.map(lambda text: text.encode("utf-8", "surrogatepass"))
        yield Target(lambda known: texts | damaged(known), check, 3 * GRAPH_MB * MIB // 2, by_line=True)


def query(**parameters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(parameters).map(
        lambda made: str(
            httpx.QueryParams({name: text.encode("utf-8", "replace") for name, text in made.items() if text})
        )
    )


def graphs():
    batch = st.sampled_from(["", "", "1", "8", "64", "4096", "-1", "x"])
    return asking(
        "/v1/graph", query(spec=spec, precision=st.sampled_from(["fp32", "fp32", "fp16", "int8", "bf16"]), batch=batch)
    )


def plans():
    count = st.one_of(st.just(""), small, numbers)
    space = network().map(lambda text: text.partition(":")[0]) | st.text(max_size=40)
    return asking(
        "/v1/plan",
        query(space=space, calibration=count, held_out=count, seed=count, isolated=st.sampled_from(["", "1", "x"])),
    )


# --- what a server sends, as its clients read it


@contextmanager
def tables() -> Iterator[Target]:
    """Answers in place of a table, read by the search, priced and turned into its matrices."""
    from search.device.lut_client import LutClient
    from search.latency.latency_model import LatencyModel

    def check(example: bytes) -> None:
        with _client(LutClient, example) as client, _foreseen():
            table = client.get_table("pi")
            space = table.parsed_space
            genotype = space.fastest()
            for found in (table.predict(genotype), table.predict_kernels({"Relu/1x16x8x8/1x16x8x8": 3}, guess=True)):
                assert math.isfinite(found.upper_ms()), found
            LatencyModel(table).mean_and_sd_ms([genotype])

    yield Target(_json_examples, check, 64 * MIB)


@contextmanager
def fetched_plans() -> Iterator[Target]:
    """Answers in place of a plan, as the agent reads them."""
    from profiler_agent.server.server_client import ServerClient

    def check(example: bytes) -> None:
        with _client(ServerClient, example) as client, _foreseen():
            plan = client.fetch_plan("nas-bench-201/r8/c4/n1/k10/i3", 2, 1, 0)
            assert plan.graphs()
            assert plan.id

    yield Target(_json_examples, check, 64 * MIB)


def _client(kind, content: bytes):
    answer = httpx.MockTransport(lambda request: httpx.Response(200, content=content))
    return kind("http://localhost:1", transport=answer)


@contextmanager
def _foreseen() -> Iterator[None]:
    """An error for users is an answer, if it is a line."""
    said = ""
    try:
        yield
    except LutnasError as error:
        said = str(error)
    assert "\n" not in said, said


def _json_examples(known: list[bytes]) -> st.SearchStrategy[bytes]:
    """Damaged bytes, and valid JSON with a value in another's place."""
    parsed = [made for content in known if (made := _parsed(content)) is not None]
    return damaged(known) | st.builds(_with_other, st.sampled_from(parsed), st.randoms())


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


ODD = (
    None,
    True,
    "",
    "x",
    "\x1b[2J",
    "../../x",
    [],
    {},
    [[]],
    0,
    -1,
    1e308,
    -1e308,
    1e-320,
    10**400,
    2**63,
    float("nan"),
    float("inf"),
)


def _with_other(tree: object, random_: random.Random) -> bytes:
    made = json.loads(json.dumps(tree))
    for _ in range(random_.choice((1, 1, 2, 5))):
        places = list(_places(made))
        if not places:
            return json.dumps(random_.choice(ODD)).encode()
        holder, key = random_.choice(places)
        change = random_.choice(("odd", "odd", "other", "gone", "double"))
        if change == "gone":
            del holder[key]
        elif change == "double" and isinstance(holder, list):
            holder.insert(key, deepcopy(holder[key]))
        elif change == "other":
            source, name = random_.choice(places)
            holder[key] = deepcopy(source[name])
        else:
            holder[key] = deepcopy(random_.choice(ODD))
    return json.dumps(made).encode()


def _places(tree: object) -> Iterator[tuple[dict | list, object]]:
    inside = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in inside:
        yield tree, key
        yield from _places(value)


# --- files of others


@contextmanager
def imports() -> Iterator[Target]:
    """Published tables, imported under each of the file names that there are."""
    from lut_server.transfer.additive_fit import Split
    from lut_server.transfer.importing import ImportRequest, read_tables

    def check(example: bytes) -> None:
        name, _, content = example.partition(b"\n")
        with _foreseen():
            for table in read_tables(content, name.decode("latin-1"), ImportRequest("phone", split=Split())):
                assert len(table.hash) == 64

    yield Target(lambda known: damaged(known), check, 96 * MIB)


@contextmanager
def models() -> Iterator[Target]:
    """ONNX files: read, counted by the runtime, and cut into kernels."""
    from profiler_agent.kernels.cut import cut_kernels
    from profiler_agent.kernels.model_files import observe_file
    from profiler_agent.ort.onnx_reader import read_graph
    from profiler_agent.ort.sessions import local_runtime

    runtime = local_runtime()
    # What a file asks for beyond this is refused to it, as on a small board.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.onnx"

        def check(example: bytes) -> None:
            path.write_bytes(example)
            with _foreseen():
                read_graph(example)
                with observe_file(path, runtime, {}) as (observed, _):
                    for cut in cut_kernels(observed, list(observed.counts())[:4]):
                        if not isinstance(cut, LutnasError):
                            cut.build(2)

        yield Target(lambda known: damaged(known) | altered_models(known), check, 256 * MIB)


def altered_models(known: list[bytes]) -> st.SearchStrategy[bytes]:
    """Files that are well-formed and say something else: bytes that are cut are hardly ever a model."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import helper

    def parsed(content: bytes) -> onnx.ModelProto | None:
        try:
            return onnx.load_model_from_string(content)
        except DecodeError:
            return None

    def alter(model: onnx.ModelProto, random_: random.Random) -> bytes:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        graph = made.graph
        values = [*graph.input, *graph.output]
        names = [name for node in graph.node for name in (*node.input, *node.output)] or ["x"]
        sides = [side for value in values for side in value.type.tensor_type.shape.dim]
        number = lambda: random_.choice((-1, 0, 1, 2, 3, 7, 8, 64, 2**31, 2**63 - 1, -(2**63)))  # noqa: E731
        for _ in range(random_.choice((1, 1, 2, 5))):
            node = random_.choice(graph.node) if graph.node else graph.node.add()
            match random_.randrange(11):
                case 0:
                    node.op_type = random_.choice(OPERATORS)
                case 1 if node.input:
                    node.input[random_.randrange(len(node.input))] = random_.choice([*names, "", "nobody"])
                case 2 if node.output:
                    node.output[random_.randrange(len(node.output))] = random_.choice([*names, ""])
                case 3 if node.attribute:
                    old = random_.choice(node.attribute)
                    if old.ints:
                        old.ints[random_.randrange(len(old.ints))] = number()
                    else:
                        old.i = number()
                case 4:
                    node.attribute.append(
                        helper.make_attribute(random_.choice(("axis", "group", "pads", "to", "x")), number())
                    )
                case 5 if sides:
                    random_.choice(sides).dim_value = number()
                case 6 if graph.initializer:
                    random_.choice(graph.initializer).data_type = random_.randrange(25)
                case 7 if graph.initializer:
                    tensor = random_.choice(graph.initializer)
                    tensor.dims[:] = [number() for _ in tensor.dims] or [number()]
                case 8:
                    random_.choice(values or [graph.input.add()]).type.tensor_type.elem_type = random_.randrange(25)
                case 9 if made.opset_import:
                    made.opset_import[0].version = random_.choice((1, 7, 9, 11, 13, 21, 26, 99))
                case 10 if graph.node:
                    graph.node.insert(random_.randrange(len(graph.node)), node)
        return made.SerializeToString()

    models_ = [model for content in known if (model := parsed(content)) is not None and model.graph.node]
    return st.builds(alter, st.sampled_from(models_), st.randoms())


OPERATORS = ("Relu", "Conv", "Add", "MatMul", "Gemm", "Reshape", "Slice", "Concat", "Split", "Expand", "Tile", "Resize")
OPERATORS += ("ConstantOfShape", "Pad", "Loop", "If", "Scan", "TopK", "NonZero", "Range", "OneHot", "Gather", "Cast")
OPERATORS += ("SequenceConstruct", "Optional", "LSTM", "Upsample", "GridSample", "Einsum", "RandomNormal", "Nothing")


TARGETS = {
    "graphs": graphs,
    "plans": plans,
    "fetched_plans": fetched_plans,
    "tables": tables,
    "imports": imports,
    "models": models,
}
