"""Which URL of the server a phone can open, and whether a server answers there."""

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
        warning: what stands in a phone's way there; None: nothing that can be seen from here.
        fingerprint: SHA-256 of a certificate that browsers warn of; None: there is none.
    """

    url: str
    warning: str | None = None
    fingerprint: str | None = None


def find_reach(
    server_url: str | None, port: int, scheme: str, look: Callable[[], Sequence[Address]] = network_addresses
) -> Reach:
    """The URL that is given, or the first of this machine's addresses at which a server answers.

    Args:
        port: at which the server listens.
        scheme: of a server that does not answer yet.
        look: finds this machine's addresses.

    Raises:
        InvalidValue: the URL is none.
        WrongUse: none is given, and this machine has no address in a network.
    """
    if server_url is not None:
        return check_url(server_url)
    addresses = look()
    if not addresses or port == 0:
        raise WrongUse(
            "no phone can reach this machine: it has no address in a network"
            if port
            else "the port is 0, any free one: name the server's with --port, or its URL with --server-url"
        )
    for address in addresses:
        found = find_server(str(address), port)
        if found is not None:
            return Reach(_url(found.scheme, address, port), fingerprint=found.fingerprint)
    url = _url(scheme, addresses[0], port)
    if find_server("127.0.0.1", port) is not None:
        return Reach(url, f"the server listens on 127.0.0.1 alone, where no phone can reach it; {_START}")
    return Reach(url, f"no server answers at {url} yet; {_START}")


def check_url(url: str) -> Reach:
    """The URL without a slash at its end, with a warning if a phone cannot reach it.

    Raises:
        InvalidValue: it is none of http or https.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue("server-url", f"'{url[:80]}' is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidValue("server-url", f"'{url[:80]}' is no URL such as http://192.168.1.20:8700")
    whole = url.rstrip("/")
    if is_loopback(parts.hostname):
        return Reach(whole, f"{parts.hostname} is this machine itself: no other one can open the link; {_START}")
    found = find_server(parts.hostname, port or {"http": 80, "https": 443}[parts.scheme])
    if found is None or found.scheme != parts.scheme:
        return Reach(whole, f"no server answers at {whole} yet, as far as this machine can see")
    return Reach(whole, fingerprint=found.fingerprint)


@dataclass(frozen=True)
class Server:
    """A lut-server that answers, and the SHA-256 of its certificate where that is not trusted here."""

    scheme: str
    fingerprint: str | None = None


def find_server(host: str, port: int) -> Server | None:
    """The lut-server at an address, by whichever scheme it answers."""
    if _answers(http.client.HTTPConnection(host, port, timeout=PATIENCE_S)):
        return Server("http")
    if _answers(http.client.HTTPSConnection(host, port, timeout=PATIENCE_S)):
        return Server("https")
    # Who it is does not matter here, only that it is there: nothing secret is sent.
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    certificates: list[bytes] = []
    if _answers(http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=anyone), certificates):
        return Server("https", hashlib.sha256(certificates[0]).digest().hex(":").upper())
    return None


def _answers(connection: http.client.HTTPConnection, certificates: list[bytes] | None = None) -> bool:
    """Whether a lut-server does; its certificate is added to the list."""
    with closing(connection):
        try:
            connection.connect()
            if certificates is not None and isinstance(connection.sock, ssl.SSLSocket):
                certificates.append(connection.sock.getpeercert(binary_form=True) or b"")
            connection.request("GET", "/healthz")
            return bool(json.loads(connection.getresponse().read(1000)) == {"status": "ok"})
        except (OSError, http.client.HTTPException, ValueError):
            return False


def _url(scheme: str, address: Address, port: int) -> str:
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{scheme}://{host}:{port}"
