"""Finds the URL of this server that a phone can open, and whether the server answers there."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from lut_server.addresses import Address, is_loopback, network_addresses
from shared.errors import InvalidValue, WrongUse

PATIENCE_S = 2.0
_START = "start it with: lut-server serve --host 0.0.0.0"


@dataclass(frozen=True)
class Reach:
    """A URL of the server.

    Attributes:
        warning: why a phone may not reach it, as far as this machine can see.
        fingerprint: SHA-256 of the certificate, if browsers warn of it.
    """

    url: str
    warning: str | None = None
    fingerprint: str | None = None


def find_reach(
    server_url: str | None, port: int, scheme: str, find_addresses: Callable[[], Sequence[Address]] = network_addresses
) -> Reach:
    """The URL that is given, else the first of this machine's addresses at which a server answers.

    Raises:
        InvalidValue: the URL is not valid.
        WrongUse: no URL is given, and this machine has no address in a network.
    """
    if server_url is not None:
        return check_url(server_url)
    addresses = find_addresses()
    if not addresses or port == 0:
        raise WrongUse(
            "no phone can reach this machine: it has no address in a network"
            if port
            else "port 0 means any free port: give the server's port with --port, or its URL with --server-url"
        )
    for address in addresses:
        found = find_server(str(address), port)
        if found is not None:
            return Reach(_url(found.scheme, address, port), fingerprint=found.fingerprint)
    url = _url(scheme, addresses[0], port)
    if find_server("127.0.0.1", port) is not None:
        return Reach(url, f"the server listens on 127.0.0.1 only, where no phone can reach it; {_START}")
    return Reach(url, f"no server answers at {url} yet; {_START}")


def check_url(url: str) -> Reach:
    """The URL without a slash at its end, with a warning if a phone cannot reach it.

    Raises:
        InvalidValue: it is no http or https URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue("server-url", f"'{url[:80]}' is no URL: {error}") from error
    host = parts.hostname or ""
    is_host = bool(host) and host.isprintable() and " " not in host
    if parts.scheme not in ("http", "https") or not is_host or parts.query or parts.fragment:
        raise InvalidValue("server-url", f"'{url[:80]}' is no URL such as http://192.168.1.20:8700")
    whole = url.rstrip("/")
    if is_loopback(host):
        return Reach(whole, f"{host} is this machine itself: no other device can open the link; {_START}")
    found = find_server(host, port or {"http": 80, "https": 443}[parts.scheme])
    if found is None or found.scheme != parts.scheme:
        return Reach(whole, f"no server answers at {whole} yet, as far as this machine can see")
    return Reach(whole, fingerprint=found.fingerprint)


@dataclass(frozen=True)
class Server:
    """A lut-server that answers; the SHA-256 of its certificate if that is not trusted here."""

    scheme: str
    fingerprint: str | None = None


def find_server(host: str, port: int) -> Server | None:
    """The lut-server at an address, by http or https."""
    if _ask(http.client.HTTPConnection(host, port, timeout=PATIENCE_S)) is not None:
        return Server("http")
    if _ask(http.client.HTTPSConnection(host, port, timeout=PATIENCE_S)) is not None:
        return Server("https")
    # Any certificate will do: nothing secret is sent.
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    certificate = _ask(http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=unverified))
    return None if certificate is None else Server("https", hashlib.sha256(certificate).digest().hex(":").upper())


def _ask(connection: http.client.HTTPConnection) -> bytes | None:
    """The certificate of the lut-server that answers (empty with http); None if none answers."""
    with closing(connection):
        try:
            connection.connect()
            secured = connection.sock if isinstance(connection.sock, ssl.SSLSocket) else None
            certificate = secured.getpeercert(binary_form=True) if secured else None
            connection.request("GET", "/healthz")
            is_server = json.loads(connection.getresponse().read(1000)) == {"status": "ok"}
            return certificate or b"" if is_server else None
        except (OSError, http.client.HTTPException, ValueError):
            return None


def _url(scheme: str, address: Address, port: int) -> str:
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{scheme}://{host}:{port}"
