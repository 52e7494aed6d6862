"""Files for a phone and back, as tar streams: a single command each, in any shell."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path, PurePosixPath

from shared.atomic_files import read_bytes, write_atomically
from shared.errors import LutnasError

_PULLED = ("run.json", "plan.json", "rounds.jsonl", "measurements.jsonl", "kernels.jsonl", "choice.jsonl")
"""Files of a run, without what servers acknowledged: the phone does not know that."""


def agent_files() -> list[tuple[str, bytes]]:
    """The agent's own files. It is pure Python: the phone runs the code of this agent."""
    found = []
    for package in ("profiler_agent", "shared"):
        folder = Path(str(files(package)))
        for path in sorted(folder.rglob("*")):
            name = f"{package}/{path.relative_to(folder).as_posix()}"
            if path.suffix in (".py", ".onnx") and "/graphs/" not in name:
                found.append((name, path.read_bytes()))
    return found


def pack(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar file of (name, content): the same files always give the same bytes."""
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in entries:
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), 0o600
            tar.addfile(about, BytesIO(content))
    return stream.getvalue()


def spool_files(spool: Path, folders: Sequence[str]) -> list[tuple[str, bytes]]:
    """The schema number and the folders of a spool, as (name, content)."""
    paths = sorted(path for folder in folders for path in (spool / folder).glob("*") if path.name[0] != ".")
    paths.insert(0, spool / "schema")
    return [(path.relative_to(spool).as_posix(), read_bytes(path) or b"") for path in paths]


def unpack_runs(stream: bytes, spool: Path) -> int:
    """Write the runs of a phone's spool into this spool; returns the number of files, each whole.

    Raises:
        LutnasError: the stream is cut off.
    """
    count = 0
    try:
        with tarfile.open(fileobj=BytesIO(stream), mode="r:") as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or len(parts) != 3 or parts[0] != "runs" or parts[2] not in _PULLED:
                    continue
                content = tar.extractfile(member)
                if content is not None and parts[1] not in ("..", "."):
                    write_atomically(spool / "runs" / parts[1] / parts[2], content.read())
                    count += 1
    except (tarfile.TarError, EOFError) as error:
        raise LutnasError(f"what came from the phone is cut off ({error}); run the same again") from error
    return count
