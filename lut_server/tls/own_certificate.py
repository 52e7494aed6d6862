"""The server's own certificate on disk: made once, renewed when it is due.

The authority that signs it lives for years and is what agents trust (`--ca-file`): the certificate is renewed before it
ends, and when this machine has other addresses, and nobody who trusts the authority notices. Both keys are for their
owner's eyes only.
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
    """A PEM file with key and chain, that of the authority, and the SHA-256 that browsers show."""

    path: Path
    authority: Path
    fingerprint: str


class OwnCertificate:
    """The certificate of one folder.

    Args:
        folder: made where there is none.
        more_names: host names and addresses beside those that this machine knows of itself.
        look: finds the latter.
    """

    def __init__(
        self,
        folder: Path,
        more_names: Iterable[str] = (),
        clock: Clock = utc_now,
        look: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._folder = folder
        self._more = tuple(more_names)
        self._clock = clock
        self._look = look or own_names

    def ensure(self) -> ServedCertificate:
        """The certificate, made or renewed where that is due.

        Raises:
            LutnasError: the folder cannot be written.
            CorruptFile: the folder holds something else.
        """
        names = tuple(dict.fromkeys((*self._look(), *self._more)))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            authority = self._authority()
            signer = self._find(authority, names) or self._issue(authority, names)
        except OSError as error:
            raise LutnasError(f"cannot keep a certificate in {self._folder}: {error.strerror or error}") from error
        return ServedCertificate(self._folder / SERVED, self._folder / AUTHORITY, signer.fingerprint())

    def _authority(self) -> Signer:
        """That of the folder, made where there is none or where it ends before what it would sign."""
        path = self._folder / AUTHORITY_KEY
        signer = _read_signer(path)
        if signer is not None and signer.certificate.not_valid_after_utc < self._clock() + CERTIFICATE_LIFE:
            path.unlink()
            signer = None
        if signer is None:
            # Of two servers that start at once on one folder, the second takes the authority of the first.
            _write_first(path, make_authority(f"lutnas on {socket.gethostname()}", self._clock()).pem())
            signer = _read_signer(path)
            assert signer is not None
        public = self._folder / AUTHORITY
        if not public.exists() or public.read_bytes() != signer.certificate_pem():
            _written(public, signer.certificate_pem(), 0o644).replace(public)
        return signer

    def _find(self, authority: Signer, names: Sequence[str]) -> Signer | None:
        """The certificate that is there, if it will do for another while."""
        signer = _read_signer(self._folder / SERVED)
        if signer is None or signer.certificate.not_valid_after_utc < self._clock() + RENEWED_BEFORE_END:
            return None
        return signer if is_certificate_for(signer.certificate, authority, names) else None

    def _issue(self, authority: Signer, names: Sequence[str]) -> Signer:
        made = make_certificate(authority, names, self._clock())
        path = self._folder / SERVED
        # Key and chain are one file: whoever reads it gets two that fit.
        _written(path, made.pem() + authority.certificate_pem(), 0o600).replace(path)
        return made


def own_names() -> tuple[str, ...]:
    """Names and addresses at which this machine may be asked for.

    IPv6 addresses are among them only where it has no other: they come and go by the day.
    """
    host, addresses = socket.gethostname(), network_addresses()
    hosts = (host,) if "." in host else (host, f"{host}.local")
    lasting = [str(one) for one in addresses if one.version == 4] or [str(one) for one in addresses]
    return ("localhost", *filter(is_host_name, hosts), "127.0.0.1", "::1", *lasting)


def _read_signer(path: Path) -> Signer | None:
    if not path.exists():
        return None
    try:
        return read_signer(path.read_bytes())
    except ValueError as error:
        raise CorruptFile(f"{path} is no key with its certificate; move it away, and a new one is made") from error


def _write_first(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, unless somebody else was first."""
    partial = _written(path, content, 0o600)
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    finally:
        partial.unlink()


def _written(path: Path, content: bytes, mode: int) -> Path:
    """The content in a file beside `path`, to take its place at once."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
    return Path(name)
