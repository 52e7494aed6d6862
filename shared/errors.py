"""Every error that a user can meet, with the exit code of the program.

LutnasError                    exit 1: something failed
├── WrongUse                   exit 2: the request is invalid
│   ├── InvalidValue           a value outside its domain; names the field
│   ├── UnknownName            an unknown name; lists the known names
│   └── BudgetTooSmall         a budget below the fastest network
├── OtherSchema                data of a form that this lutnas does not read
├── Stopped                    exit 130: a signal came, the work so far is saved
├── MissingPrice               an op key that a table lacks
├── MissingKernel              a kernel that a table lacks
├── CorruptFile                a file with damaged content
├── ServerAway                 the server does not answer
│   └── UntrustedServer        its certificate is not trusted
└── ServerRefused              the server answered with an error
    ├── AccessDenied           401 or 403
    ├── NotFound               404
    └── Conflict               409
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

MOST_LISTED = 20
LONGEST_REASON = 4000
"""Characters of what a library or a program says: more than any reason, less than a flood."""


def in_one_line(said: object) -> str:
    """What a library or a program says, whole, without anything that moves a terminal's cursor."""
    words = " ".join(str(said).split())
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)[:LONGEST_REASON]


class LutnasError(Exception):
    """Base of all errors for users. The message is a line that says what, where, and what to do."""

    exit_code = 1
    retry_after_s: int | None = None
    """The pause that the server asks for (the header `Retry-After`)."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As made: a constructor whose arguments are not the message cannot be called with it."""
        return _unpickle, (type(self), self.args), self.__dict__


def _unpickle(kind: type[LutnasError], args: tuple[Any, ...]) -> LutnasError:
    return kind.__new__(kind, *args)


class WrongUse(LutnasError):
    """An invalid request. The same request fails again."""

    exit_code = 2


class InvalidValue(WrongUse, ValueError):
    """A value outside its domain."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownName(WrongUse):
    """An unknown name. The message lists the known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        listed = ", ".join(sorted(known)) or "none yet"
        super().__init__(f"unknown {kind} '{name}' (known: {listed})" + (f"; {advice}" if advice else ""))


class BudgetTooSmall(WrongUse):
    """A budget below the upper bound of the fastest network of the space."""

    def __init__(self, budget_ms: float, smallest_ms: float, device: str) -> None:
        digits = 2 - math.floor(math.log10(smallest_ms))
        enough_ms = math.ceil(smallest_ms * 10**digits) / 10**digits  # rounded up, so that this budget is enough
        super().__init__(
            f"no network meets {budget_ms:g} ms on {device}: the fastest needs {enough_ms:.3g} ms; ask for that or more"
        )
        self.smallest_ms = smallest_ms


class Stopped(LutnasError):
    """SIGINT or SIGTERM came. All is saved, and the same command continues."""

    exit_code = 130


class OtherSchema(LutnasError):
    """Data with the schema number of another lutnas (`shared.wire`)."""

    def __init__(self, what: str, found: object, needed: int | str) -> None:
        number = "no schema number" if found is None else f"schema {str(found)[:20]}"
        super().__init__(
            f"{what} has {number}, this lutnas reads schema {needed}: make it anew, or use the lutnas that wrote it"
        )


class MissingPrice(LutnasError):
    """Op keys that a network needs and a table lacks."""

    def __init__(self, keys: Iterable[str], device: str, command: str) -> None:
        missing = sorted(keys)
        shown = ", ".join(missing[:MOST_LISTED])
        shown += f" and {len(missing) - MOST_LISTED} more" if len(missing) > MOST_LISTED else ""
        advice = f"; measure with: {command}" if command else ""
        super().__init__(f"the table of {device} has no price for {shown}{advice}")
        self.missing = missing


class MissingKernel(LutnasError):
    """Kernels that a network executes and a table lacks."""

    def __init__(self, kernels: Iterable[str], device: str = "the device", command: str = "") -> None:
        missing = sorted(kernels)
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        advice = f"; measure them with: {command}" if command else ""
        super().__init__(f"the table of {device} has no price for the kernels {shown or '(any)'}{advice}")
        self.missing = missing


class CorruptFile(LutnasError):
    """A file with damaged content."""


class ServerAway(LutnasError):
    """The server does not answer."""


class UntrustedServer(ServerAway):
    """This machine does not trust the server's certificate."""


class ServerRefused(LutnasError):
    """The server answered with an error."""

    def __init__(
        self,
        message: str,
        status: int,
        code: str,
        retry_after_s: int | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.detail = dict(detail or {})


class AccessDenied(ServerRefused):
    """The token is missing, wrong, or of another role."""


class NotFound(ServerRefused):
    """The server does not have it."""


class Conflict(ServerRefused):
    """The same id was uploaded before with other content."""
