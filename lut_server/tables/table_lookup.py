"""Which table a device, a space and perhaps a runtime mean, and what to say without a table."""

from __future__ import annotations

from lut_server.error_codes import refused
from lut_server.store.sql import Store
from lut_server.store.values import TableSummary
from shared.errors import WrongUse
from shared.runtime import PRECISIONS, runtime_parts
from shared.spaces import Own, Space, make_space, parse_space
from shared.tables.table import profile_command
from shared.tables.table_source import IMPORTED_ENGINE


def get_table(store: Store, device: str, space: str = "", runtime: str | None = None) -> TableSummary:
    """The newest table of the device whose space is `space` or begins with its parts, and whose
    runtime fits.

    Args:
        space: a space, or its first parts; empty takes any.
        runtime: a runtime, or some of its parts in any order (`CUDAExecutionProvider/threads=1`);
            None takes any. What says nothing of the precision gets fp32 first.

    Raises:
        NotFound: unknown_device; or no_table, naming what exists and the command that would measure
            the rest.
    """
    wanted = space.strip("/")
    table = store.tables.find(device, wanted, runtime)
    if table is not None:
        return table
    store.devices.get(device)
    existing = store.tables.list(device)
    parts = set((runtime or "").strip("/").split("/"))
    newest_first = tuple(reversed(existing))
    for table in sorted(newest_first, key=lambda table: "/fp32/" not in table.runtime):
        if f"{table.space}/".startswith(f"{wanted}/" if wanted else "") and parts <= runtime_parts(table.runtime):
            return table
    there = sorted({f"{table.space} on {table.runtime}" for table in existing})
    of_runtime = f" on {runtime}" if runtime else ""
    is_imported = existing and all(table.runtime.startswith(f"{IMPORTED_ENGINE}-") for table in existing)
    advice = f"measure it with: {_command(device, wanted, runtime)}"
    raise refused(
        "no_table",
        f"{device} has no table of {wanted or 'any space'}{of_runtime} (it has: {'; '.join(there) or 'none yet'}); "
        f"{'imported, not to be measured here' if is_imported else advice}",
    )


def _command(device: str, space: str, runtime: str | None) -> str:
    """The profile command of a space whose trailing parts may be missing."""
    precision = next((part for part in (runtime or "").split("/") if part in PRECISIONS), "fp32")
    try:
        whole = whole_space(space)
    except WrongUse:
        whole = make_space("nas-bench-201")
    return profile_command(device, whole, precision)


def whole_space(text: str) -> Space:
    """The space whose trailing parts may be missing, with the space's own parameters for these.

    Raises:
        WrongUse: there is no such space.
    """
    if text.startswith(f"{Own.name}/"):
        return parse_space(text)
    name, *parts = text.split("/")
    defaults = str(make_space(name)).split("/")
    return parse_space("/".join([defaults[0], *parts, *defaults[1 + len(parts) :]]))
