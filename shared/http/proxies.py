"""The proxy on the way to a server, by the usual variables. A server on this machine needs none."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from shared.errors import InvalidValue


def find_proxy(scheme: str, host: str) -> tuple[str, str] | None:
    """The URL of the proxy, and its name for messages, which omits user and password.

    Args:
        scheme, host: of the server.

    Raises:
        InvalidValue: the proxy is not an HTTP proxy.
    """
    if _is_loopback(host) or proxy_bypass(host) or proxy_bypass(f"[{host}]"):
        return None
    known = getproxies()
    kind = scheme if known.get(scheme) else "all"
    if not known.get(kind):
        return None
    url, variable = known[kind] if "://" in known[kind] else f"http://{known[kind]}", f"{kind.upper()}_PROXY"
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname or "")
    except ValueError:  # its text may hold the password
        place = ""
    if not place.isprintable() or not place or parts.scheme not in ("http", "https"):
        what = f"the proxy {parts.scheme}://{place}" if place.isprintable() and place else "no URL"
        raise InvalidValue(
            variable, f"is {what}, not one like http://proxy:3128; to go past it: NO_PROXY={host} in the environment"
        )
    return url, f"{place} ({variable})"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
