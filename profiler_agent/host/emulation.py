"""Whether the processor or the GPU is only imitated: then timings say nothing of any device.

An emulator of single programs (qemu-user, also behind `docker run --platform`; Rosetta, FEX, box64)
hides from its program: uname, /proc/self/exe and /proc/self/maps speak of the imitated machine. It
forgets /proc/thread-self, where the kernel names the file that it really executes. Neither a
container of the machine's own architecture nor a virtual machine is an emulation.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

NOT_THE_DEVICE = "its timings mean nothing, measure on the device itself"
X86, ARM = "x86", "ARM"
_FAMILIES: Mapping[int, str] = MappingProxyType({3: X86, 62: X86, 40: ARM, 183: ARM, 243: "RISC-V", 21: "POWER"})
"""By ELF's e_machine, the processor that executes the file."""
_EMULATORS = re.compile(r"qemu-[\w-]+|rosetta|FEX(Interpreter|Loader)?|box(64|86)", re.IGNORECASE)


def find_emulator(root: Path, architecture: str) -> str | None:
    """What imitates the processor, in words; None if it is real, or nothing tells.

    Args:
        root: of /proc.
        architecture: by uname.
    """
    program, cpuinfo = root / "proc/thread-self/exe", _read(root / "proc/cpuinfo").decode(errors="replace")
    return (
        _by_name(program)
        or _by_header(program, architecture)
        or _by_features(cpuinfo, architecture)
        or _by_processor(cpuinfo)
        or _by_driver(_read(root / "proc/self/maps", 10_000_000))
    )


def _by_name(program: Path) -> str | None:
    """The kernel's own word. It also tells of an imitation of the same architecture."""
    try:
        target = program.readlink()
    except OSError:
        return None
    return str(target.name) if _EMULATORS.fullmatch(target.name) else None


def _by_header(program: Path, architecture: str) -> str | None:
    """A program for another processor than uname names: an emulator by another name."""
    header = _read(program, 20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    (machine,) = struct.unpack_from("<H" if header[5] == 1 else ">H", header, 18)
    real, told = _FAMILIES.get(machine), _family(architecture)
    return f"a program for {real} processors" if real and told and real != told else None


def _by_features(cpuinfo: str, architecture: str) -> str | None:
    """The real machine's /proc/cpuinfo, which older versions of qemu-user pass on."""
    if _family(architecture) == ARM and re.search(r"^(vendor_id|flags)\s*:", cpuinfo, re.MULTILINE):
        return f"an x86 processor under {architecture}"
    if _family(architecture) == X86 and re.search(r"^CPU implementer\s*:", cpuinfo, re.MULTILINE):
        return f"an ARM processor under {architecture}"
    return None


def _by_processor(cpuinfo: str) -> str | None:
    """A processor of qemu's own translator: an imitated, not a virtual, machine."""
    # Implementer 0 and part 'Q' are what its processor `max` calls itself on ARM.
    arm = re.search(r"^CPU implementer\s*:\s*0x0+$(?s:.*?)^CPU part\s*:\s*0x0*51$", cpuinfo, re.MULTILINE)
    x86 = re.search(r"^model name\s*:.*(QEMU TCG CPU|VirtualApple)", cpuinfo, re.MULTILINE)
    if x86 and "Apple" in x86[1]:
        return "Rosetta"
    return "qemu's translator" if arm or x86 else None


def _by_driver(mapped: bytes) -> str | None:
    """A Vulkan driver that imitates a GPU, once a session has loaded it."""
    return "SwiftShader" if b"libvk_swiftshader" in mapped else None


def _family(architecture: str) -> str | None:
    name = architecture.lower()
    if name in ("x86_64", "amd64", "i386", "i486", "i586", "i686"):
        return X86
    return ARM if name.startswith(("aarch64", "arm")) else None


def _read(path: Path, size: int = 100_000) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""
