import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidValue
from shared.spaces.op_key import OpKey, Shape, parse_op_key

sides = st.integers(1, 4096)
shapes = st.builds(Shape, sides, sides, sides)
names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)


@given(st.builds(OpKey, names, shapes, shapes, st.integers(1, 8)))
def test_parsing_undoes_formatting(key: OpKey) -> None:
    assert parse_op_key(str(key)) == key


@pytest.mark.parametrize(
    "text",
    ["", "conv", "conv/16x32x32/16x32x32", "conv/16x32/16x32x32/s1", "Conv/1x1x1/1x1x1/s1", "conv/0x1x1/1x1x1/s1",
     "conv/1x1x1/1x1x1/s0", "conv/1x1x1/1x1x1/s1/extra", "conv/1x1x-1/1x1x1/s1"],
)  # fmt: skip
def test_a_text_that_is_no_op_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_op_key(text)
