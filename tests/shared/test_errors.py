"""Errors of worker processes reach their parent as they were raised."""

import pickle

import pytest

from shared.errors import (
    BudgetTooSmall,
    Conflict,
    InvalidValue,
    LutnasError,
    MissingKernel,
    MissingPrice,
    OtherSchema,
    UnknownName,
)


@pytest.mark.parametrize(
    "error",
    [
        LutnasError("all of it"),
        InvalidValue("lr", "0 is not above 0"),
        UnknownName("strategy", "dart", ("darts",)),
        BudgetTooSmall(1.0, 2.0, "board"),
        OtherSchema("table", 9, 10),
        MissingPrice(["conv"], "board", "profile"),
        MissingKernel(["Conv"]),
        Conflict("held", 409, "held", 3, {"by": "x"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_after_it_was_pickled(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
