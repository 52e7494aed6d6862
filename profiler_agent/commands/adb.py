"""Make the latency tables of a phone that is connected by USB, from a desktop.

profiler-agent adb --device pixel8 --space nas-bench-201 --lut-url http://server:8700
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from profiler_agent.android.health import LEVELS
from profiler_agent.android.termux import WAYS
from profiler_agent.commands.options import add_plan, open_client, say, spool_folder, wanted_profile
from profiler_agent.spool.spool import Spool
from shared.command_line import Commands, Parser, add_command, add_server
from shared.errors import InvalidValue

if TYPE_CHECKING:
    from profiler_agent.android.phone import PhoneAgent

_PASSED_ON = (
    "device", "channels", "depth", "classes", "image_channels", "threads", "batch", "calibration", "held_out", "seed",
    "precision", "preset", "seconds_per_task", "provider", "optimisation",
)  # fmt: skip
LOW_BATTERY_PERCENT = 20


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "adb", run, __doc__)
    add_server(parser, "agent")
    advanced = add_plan(parser)
    phone = parser.add_argument_group("phone")
    phone.add_argument("--serial", metavar="S", help="which phone, as `adb devices` names it (needed for several)")
    phone.add_argument("--cores", metavar="N", help="to run on, for example 4-7, or all (default: the fastest cluster)")
    phone.add_argument(
        "--pause-at", choices=LEVELS[1:], default="moderate", help="thermal status that pauses measuring (moderate)"
    )
    advanced.add_argument(
        "--through", choices=WAYS, help="the way into Termux (default: run-as where it works, else ssh)"
    )
    advanced.add_argument(
        "--proot", metavar="NAME", help="run in this distribution of proot-distro, not in Termux itself"
    )
    advanced.add_argument(
        "--python", default="python3", metavar="P", help="on the phone, with the agent's needs (python3)"
    )
    advanced.add_argument(
        "--wait-s", type=float, default=600.0, metavar="S", help="for a phone that was unplugged to come back (600)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Find the phone, measure, hand in."""
    from profiler_agent.android.bridge import Adb, choose_phone, list_attached
    from profiler_agent.android.campaign import PhoneCampaign
    from profiler_agent.android.phone import PhoneAgent, proot_words
    from profiler_agent.android.termux import open_termux

    request = wanted_profile(arguments)
    phone = choose_phone(list_attached(), arguments.serial)
    adb = Adb(phone.serial)
    inside = proot_words(arguments.proot) if arguments.proot else ()
    agent = PhoneAgent(adb, open_termux(adb, arguments.through), inside, arguments.python)
    cores = _describe(agent, arguments.cores, arguments.threads)
    kept = Spool(spool_folder(arguments) / "adb" / re.sub(r"[^\w.-]", "-", phone.serial))
    with open_client(arguments) as client:
        campaign = PhoneCampaign(agent, client, kept, say, LEVELS.index(arguments.pause_at), arguments.wait_s)
        return campaign.run(request, phone_flags(arguments), cores)


def phone_flags(arguments: argparse.Namespace) -> list[str]:
    """What to measure, in the words of `profile`."""
    flags = ["--space", *arguments.space]
    if arguments.resolution:
        flags += ["--resolution", *map(str, arguments.resolution)]
    for name in _PASSED_ON:
        value = getattr(arguments, name)
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return [*flags, "--new"] if arguments.new else flags


def parse_cores(text: str) -> tuple[int, ...]:
    """Core numbers from "4-7" or "0,4-5".

    Raises:
        InvalidValue: it is no such list.
    """
    if not re.fullmatch(r"\d{1,3}(-\d{1,3})?(,\d{1,3}(-\d{1,3})?)*", text):
        raise InvalidValue("--cores", f"'{text}' is no list of cores like 4-7 or 0,4")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def _describe(agent: PhoneAgent, wanted: str | None, threads: int) -> Sequence[int]:
    """Say what the phone is; returns the cores to run on."""
    from profiler_agent.host.machine import fastest_cores, join_numbers

    phone, clusters, health = agent.describe(), agent.clusters(), agent.health()
    if phone is not None:
        say(f"{phone.model}, {phone.soc}, Android {phone.version}")
    say(f"cores      {', '.join(map(str, clusters)) or 'not shown by this phone'}")
    say(f"now        {health}")
    if health.battery_percent is not None and health.battery_percent < LOW_BATTERY_PERCENT and not health.powered:
        say("the battery is low and not charging: phones slow down then")
    cores = fastest_cores(clusters, threads) if wanted is None else () if wanted == "all" else parse_cores(wanted)
    say(f"running on {'cores ' + join_numbers(cores) if cores else 'whichever cores Android gives'}")
    return cores
