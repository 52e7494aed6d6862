"""The server's own certificate on disk: made once, renewed when it is due.

Agents trust the authority that signs it (`--ca-file`), which is valid for years. The certificate is
renewed before it ends, and when this machine has other addresses; whoever trusts the authority
trusts the new certificate. Only their owner can read the two keys.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from lut_server.addresses import is_host_name, network_addresses
from lut_server.clock import Clock, utc_now
from lut_server.tls.signing import (
    CERTIFICATE_LIFE,
    Signer,
    is_certificate_for,
    make_authority,
    make_certificate,
    read_signer,
)
from shared.errors import CorruptFile, LutnasError

RENEWED_BEFORE_END = timedelta(days=30)
AUTHORITY, AUTHORITY_KEY, SERVED = "ca.pem", "ca-key.pem", "server.pem"


@dataclass(frozen=True)
class ServedCertificate:
    """PEM files: of key and chain, and of the authority; and the SHA-256 that browsers show."""

    path: Path
    authority: Path
    fingerprint: str


class OwnCertificate:
    """The certificate of one folder.

    Args:
        folder: made if there is none.
        more_names: host names and addresses beside those that `find_names` returns.
    """

    def __init__(
        self,
        folder: Path,
        more_names: Iterable[str] = (),
        clock: Clock = utc_now,
        find_names: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._folder = folder
        self._more = tuple(more_names)
        self._clock = clock
        self._find_names = find_names or own_names

    def ensure(self) -> ServedCertificate:
        """The certificate, made or renewed if that is due.

        Raises:
            LutnasError: the folder cannot be written.
            CorruptFile: the folder holds something else.
        """
        names = tuple(dict.fromkeys((*self._find_names(), *self._more)))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            authority = self._authority()
            signer = self._find(authority, names) or self._issue(authority, names)
        except OSError as error:
            raise LutnasError(f"cannot keep a certificate in {self._folder}: {error.strerror or error}") from error
        return ServedCertificate(self._folder / SERVED, self._folder / AUTHORITY, signer.fingerprint())

    def _authority(self) -> Signer:
        """The folder's authority, made anew if it would end before its certificates."""
        path = self._folder / AUTHORITY_KEY
        signer = _read_signer(path)
        if signer is not None and signer.certificate.not_valid_after_utc < self._clock() + CERTIFICATE_LIFE:
            path.unlink()
            signer = None
        if signer is None:
            # If two servers start at once on one folder, both take the authority that is first.
            _write_first(path, make_authority(f"lutnas on {socket.gethostname()}", self._clock()).pem())
            signer = _read_signer(path)
            assert signer is not None
        public = self._folder / AUTHORITY
        if not public.exists() or public.read_bytes() != signer.certificate_pem():
            _written(public, signer.certificate_pem(), 0o644).replace(public)
        return signer

    def _find(self, authority: Signer, names: Sequence[str]) -> Signer | None:
        """The certificate of the folder, if it is valid for these names and for a month."""
        signer = _read_signer(self._folder / SERVED)
        if signer is None or signer.certificate.not_valid_after_utc < self._clock() + RENEWED_BEFORE_END:
            return None
        return signer if is_certificate_for(signer.certificate, authority, names) else None

    def _issue(self, authority: Signer, names: Sequence[str]) -> Signer:
        made = make_certificate(authority, names, self._clock())
        path = self._folder / SERVED
        # Key and chain in one file always fit each other.
        _written(path, made.pem() + authority.certificate_pem(), 0o600).replace(path)
        return made


def own_names() -> tuple[str, ...]:
    """This machine's names and addresses. IPv6 only if there is no IPv4: it changes by the day."""
    host, addresses = socket.gethostname(), network_addresses()
    hosts = (host,) if "." in host else (host, f"{host}.local")
    lasting = [str(address) for address in addresses if address.version == 4] or [str(address) for address in addresses]
    return ("localhost", *filter(is_host_name, hosts), "127.0.0.1", "::1", *lasting)


def _read_signer(path: Path) -> Signer | None:
    if not path.exists():
        return None
    try:
        return read_signer(path.read_bytes())
    except ValueError as error:
        raise CorruptFile(f"{path} is no key with its certificate; move it away, then a new key is made") from error


def _write_first(path: Path, content: bytes) -> None:
    """Write a file for its owner only, unless there is one."""
    partial = _written(path, content, 0o600)
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    finally:
        partial.unlink()


def _written(path: Path, content: bytes, mode: int) -> Path:
    """Write a file beside `path`, to be renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
    return Path(name)
