"""Every error that a user can meet, and the exit code it ends a program with.

LutnasError                    exit 1: something failed
├── WrongUse                   exit 2: what was asked for cannot be
│   ├── InvalidValue           a value outside its domain; names the field
│   ├── UnknownName            a name that nobody knows; lists the known ones
│   └── BudgetTooSmall         a budget below the fastest network
├── OtherSchema                data of a form that this lutnas does not read
├── Stopped                    exit 130: a signal came, what was done is saved
├── MissingPrice               an op key that a table lacks
├── MissingKernel              a kernel that a table lacks
├── CorruptFile                a file whose content is not what it should be
├── ServerAway                 the server does not answer
│   └── UntrustedServer        or nobody vouches that it is the server
└── ServerRefused              the server answered with an error
    ├── AccessDenied           401 or 403
    ├── NotFound               404
    └── Conflict               409
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

MOST_LISTED = 20


class LutnasError(Exception):
    """Base of all errors whose message is meant for a user: one line that says what, where, and what to do."""

    exit_code = 1


class WrongUse(LutnasError):
    """What was asked for cannot be; asking again in the same words is of no use."""

    exit_code = 2


class InvalidValue(WrongUse, ValueError):
    """A value outside its domain."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownName(WrongUse):
    """A name that nobody knows."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        listed = ", ".join(sorted(known)) or "none yet"
        super().__init__(f"unknown {kind} '{name}' (known: {listed})" + (f"; {advice}" if advice else ""))
        self.kind = kind
        self.name = name


class BudgetTooSmall(WrongUse):
    """A budget below the upper bound of the fastest network of the space."""

    def __init__(self, budget_ms: float, smallest_ms: float, device: str) -> None:
        digits = 2 - math.floor(math.log10(smallest_ms))
        enough_ms = math.ceil(smallest_ms * 10**digits) / 10**digits  # rounded up: asking for it has to be enough
        super().__init__(
            f"no network meets {budget_ms:g} ms on {device}: the fastest one needs {enough_ms:.3g} ms;"
            " ask for that or more"
        )
        self.budget_ms = budget_ms
        self.smallest_ms = smallest_ms


class Stopped(LutnasError):
    """SIGINT or SIGTERM came; all is saved, and the same command goes on."""

    exit_code = 130


class OtherSchema(LutnasError):
    """Data of a form that another lutnas wrote and this one does not read (`shared.schemas`)."""

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
        super().__init__(f"the table of {device} has no price for {shown}; measure with: {command}")
        self.missing = missing


class MissingKernel(LutnasError):
    """Kernels that a network executes and a table has no price for."""

    def __init__(self, kernels: Iterable[str], device: str = "the device", command: str = "") -> None:
        missing = sorted(kernels)
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        advice = f"; measure them with: {command}" if command else ""
        super().__init__(f"the table of {device} has no price for the kernels {shown or '(any)'}{advice}")
        self.missing = missing


class CorruptFile(LutnasError):
    """A file whose content is not what it should be."""


class ServerAway(LutnasError):
    """The server does not answer."""


class UntrustedServer(ServerAway):
    """The server's certificate is of nobody whom this machine trusts."""


class ServerRefused(LutnasError):
    """The server answered with an error in its one error shape; `retry_after_s` where it says when to come back."""

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
    """The server has no such thing."""


class Conflict(ServerRefused):
    """The same identity was uploaded before with other content."""
