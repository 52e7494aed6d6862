"""What a table is of: the name of its device, and everything about the software that changes a latency."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from shared.errors import InvalidValue

PRECISIONS = ("fp32", "fp16", "int8")
OPTIMISATION_LEVELS = ("disabled", "basic", "extended", "all")
TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"


def silence_onnxruntime(environment: MutableMapping[str, str]) -> None:
    """Switch ONNX Runtime's telemetry off. Call it before the library is imported.

    Since 1.29 the packages for Linux send usage data, keep a database in the home folder and run a
    thread, which would disturb a measurement. A value that the user set stays.
    """
    environment.setdefault(TELEMETRY_VARIABLE, "1")


@dataclass(frozen=True, order=True)
class Runtime:
    """The software that executed a graph.

    Attributes:
        engine: "onnxruntime", or "onnxruntime-web" in a browser.
        version: of the engine, for example "1.31.0".
        provider: ONNX Runtime's name of the execution provider; in a browser "wasm/simd" or
            "webgpu".
        precision: of weights and activations: "fp32", "fp16", or "int8" (static, weights per
            channel).
        optimisation: ONNX Runtime's graph optimisation level.
    """

    engine: str
    version: str
    provider: str = "CPUExecutionProvider"
    threads: int = 1
    precision: str = "fp32"
    optimisation: str = "all"
    batch: int = 1

    def __post_init__(self) -> None:
        for field in ("engine", "version", "provider"):
            value = getattr(self, field)
            name = value.removesuffix("/simd") if field == "provider" else value
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
                raise InvalidValue(f"runtime.{field}", f"'{value}' is not a name")
        if not 1 <= self.threads <= 1024:
            raise InvalidValue("runtime.threads", f"{self.threads} is not within 1 to 1024")
        if not 1 <= self.batch <= 4096:
            raise InvalidValue("runtime.batch", f"{self.batch} is not within 1 to 4096")
        check_precision(self.precision, "runtime.precision")
        if self.optimisation not in OPTIMISATION_LEVELS:
            raise InvalidValue("runtime.optimisation", f"'{self.optimisation}' is none of {OPTIMISATION_LEVELS}")

    @property
    def of_canary(self) -> Runtime:
        """The runtime of the canary, which is always fp32."""
        return dataclasses.replace(self, precision="fp32")

    def __str__(self) -> str:
        return (
            f"{self.engine}-{self.version}/{self.provider}/{self.precision}"
            f"/threads={self.threads}/opt={self.optimisation}/batch={self.batch}"
        )


def check_precision(precision: str, name: str = "precision") -> None:
    """Raise InvalidValue unless it is a precision; `name` stands in the message."""
    if precision not in PRECISIONS:
        raise InvalidValue(name, f"'{precision}' is none of {', '.join(PRECISIONS)}")


_RUNTIME = re.compile(
    r"(onnxruntime-web|[^/-]+)-([^/]+)/([^/]+(?:/simd)?)/([^/]+)/threads=(\d{1,9})/opt=([a-z]+)/batch=(\d{1,9})"
)


def runtime_parts(text: str) -> frozenset[str]:
    """The words that select a runtime: parts of its string form, and its engine alone."""
    runtime = parse_runtime(text)
    return frozenset((*text.split("/"), runtime.engine))


def parse_runtime(text: str) -> Runtime:
    """Inverse of `str(runtime)`.

    Raises:
        InvalidValue: the text is not a runtime.
    """
    match = _RUNTIME.fullmatch(text)
    if match is None:
        raise InvalidValue(
            "runtime", f"'{text[:100]}' does not read ENGINE-VERSION/PROVIDER/PRECISION/threads=/opt=/batch="
        )
    engine, version, provider, precision, threads, optimisation, batch = match.groups()
    return Runtime(engine, version, provider, int(threads), precision, optimisation, int(batch))


def check_device_name(name: str) -> None:
    """Raise InvalidValue unless the text can name a device."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InvalidValue("device", f"'{name[:80]}' is not a name of up to 64 letters, digits, dots, _ and -")
