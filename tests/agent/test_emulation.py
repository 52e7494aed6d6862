"""Real and imitated processors, on made-up /proc trees and on this very machine."""

import struct

import pytest

from profiler_agent.doctor import machine_findings
from profiler_agent.host.emulation import find_emulator
from profiler_agent.host.machine import Machine
from profiler_agent.host.probe import probe
from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.timing.campaign import Subject
from profiler_agent.timing.stability import StabilityJudge
from profiler_agent.timing.stopping import PRESETS
from shared.measurements.measurement import Round
from shared.measurements.plan import Task

X86_INFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i5\nflags\t\t: fpu sse2\n"
ARM_INFO = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
APPLE_VM_INFO = "processor\t: 0\nBogoMIPS\t: 48.00\nCPU implementer\t: 0x00\nCPU part\t: 0x000\nCPU revision\t: 0\n"
X86_64, AARCH64, ARM32 = 62, 183, 40


def machine(root, program, elf, cpuinfo):
    """A /proc with the program that the kernel says it executes."""
    executable = root / "bin" / program
    executable.parent.mkdir()
    executable.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, elf))
    (root / "proc/thread-self").mkdir(parents=True)
    (root / "proc/thread-self/exe").symlink_to(executable)
    (root / "proc/cpuinfo").write_text(cpuinfo)
    return root


@pytest.mark.parametrize(
    ("program", "elf", "cpuinfo", "architecture", "found"),
    [
        # qemu-user, by hand and behind docker's binfmt: old versions show the real cpuinfo, new
        # ones their own
        ("qemu-aarch64-static", X86_64, X86_INFO, "aarch64", "qemu-aarch64-static"),
        ("qemu-aarch64", X86_64, ARM_INFO, "aarch64", "qemu-aarch64"),
        ("qemu-x86_64", X86_64, X86_INFO, "x86_64", "qemu-x86_64"),
        ("rosetta", AARCH64, X86_INFO, "x86_64", "rosetta"),
        ("FEXInterpreter", AARCH64, X86_INFO, "x86_64", "FEXInterpreter"),
        ("some-emulator", X86_64, ARM_INFO, "aarch64", "a program for x86 processors"),
        ("python3.11", AARCH64, X86_INFO, "aarch64", "an x86 processor under aarch64"),
        ("python3.11", X86_64, ARM_INFO, "x86_64", "an ARM processor under x86_64"),
        # a whole machine that is imitated
        ("python3.11", X86_64, X86_INFO.replace("Intel(R)", "QEMU TCG CPU"), "x86_64", "qemu's translator"),
        ("python3.11", AARCH64, ARM_INFO.replace("0x41", "0x00").replace("d08", "051"), "aarch64", "qemu's translator"),
        # real ones
        ("python3.11", X86_64, X86_INFO, "x86_64", None),
        ("python3.11", AARCH64, ARM_INFO, "aarch64", None),
        ("python3.11", ARM32, ARM_INFO, "aarch64", None),
        ("python3.11", X86_64, X86_INFO.replace("Intel(R)", "QEMU Virtual CPU"), "x86_64", None),
        ("python3.11", AARCH64, APPLE_VM_INFO, "aarch64", None),
        ("loader", AARCH64, ARM_INFO, "aarch64", None),
    ],
)
def test_an_emulator_is_found_and_a_container_or_virtual_machine_is_none(
    tmp_path, program, elf, cpuinfo, architecture, found
):
    assert find_emulator(machine(tmp_path, program, elf, cpuinfo), architecture) == found


def test_where_nothing_tells_nothing_is_found(tmp_path):
    assert find_emulator(tmp_path, "aarch64") is None
    assert find_emulator(tmp_path, "") is None


def test_a_driver_that_imitates_a_gpu_is_found_by_what_the_process_mapped(tmp_path):
    maps = machine(tmp_path, "python3.11", X86_64, X86_INFO) / "proc/self/maps"
    maps.parent.mkdir()
    maps.write_text("7f00-7f01 r-xp 0 00:00 1 /usr/lib/libvulkan_radeon.so\n")
    assert find_emulator(tmp_path, "x86_64") is None
    maps.write_text("7f00-7f01 r-xp 0 00:00 1 /usr/lib/chromium/libvk_swiftshader.so\n")
    assert find_emulator(tmp_path, "x86_64") == "SwiftShader"


def test_this_very_machine_is_none():
    assert probe(sleep=lambda s: None)["emulated"] == "no"


def test_androids_own_emulator_counts_as_one(tmp_path):
    properties = "[ro.build.version.release]: [14]\n[ro.boot.qemu]: [1]\n"
    assert Machine(tmp_path, lambda command: properties).emulator == "Android's emulator"


def test_an_emulated_machine_is_marked_in_probe_verdict_and_doctor(tmp_path):
    imitated = Machine(machine(tmp_path, "qemu-aarch64", X86_64, X86_INFO), lambda command: None)
    assert probe(imitated, sleep=lambda s: None)["emulated"] == "qemu-aarch64"

    task = Task("net", "calibration", "canary:conv-v1")
    steady = Subject(task, TimedGraph("net", lambda: None), rounds=[Round((2.0,), (1.0,))] * 20)
    verdict = StabilityJudge(PRESETS["standard"], imitated).judge(steady)
    assert not verdict.stable
    assert verdict.reasons == ("emulated by qemu-aarch64: its timings mean nothing, measure on the device itself",)

    finding = machine_findings(imitated, "", "", None, None, set())[0]
    assert (finding.name, finding.level, finding.found) == ("emulated", "poor", "by qemu-aarch64")
    assert "measure on the device itself" in finding.advice
