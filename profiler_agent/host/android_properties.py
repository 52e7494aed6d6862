"""What Android's properties say of a phone (`getprop`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Phone:
    """An Android device.

    Attributes:
        model: maker and model.
        soc: the processor's maker and name; empty where the properties have neither.
        version: of Android.
        emulator: whether it is Android's emulator, on whatever machine that runs.
    """

    model: str
    soc: str
    version: str
    emulator: bool


def read_properties(text: str) -> dict[str, str]:
    """The answer of `getprop` without a name: [name]: [value], one a line."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*)\]$", text.replace("\r\n", "\n"), re.MULTILINE))


def find_phone(properties: Mapping[str, str]) -> Phone | None:
    """The phone that has these properties; None where they are not Android's."""
    version = properties.get("ro.build.version.release", "")
    if not version:
        return None
    model = _join(properties.get("ro.product.manufacturer", ""), properties.get("ro.product.model", ""))
    soc = _join(properties.get("ro.soc.manufacturer", ""), properties.get("ro.soc.model", ""))  # from Android 12 on
    older = properties.get("ro.board.platform") or properties.get("ro.hardware", "")
    emulator = "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu"))
    return Phone(model or "unknown", soc or older, version, emulator)


def _join(maker: str, name: str) -> str:
    return name if name.lower().startswith(maker.lower()) else f"{maker} {name}".strip()
