"""Addresses at which other machines of the network reach this one."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

import ifaddr

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ELSEWHERE = "192.0.2.1"
"""An address that no machine has (RFC 5737); nothing is sent to it."""
_INNER = ("docker", "br-", "veth", "virbr", "lxc", "cni", "flannel", "podman")
"""Names of interfaces between this machine and its own containers."""


def network_addresses() -> tuple[Address, ...]:
    """This machine's addresses but loopback and link-local: IPv4 first, that of the default route
    before the others.

    Those of networks inside the machine (containers) come last.
    """
    found = [
        (ip.ip if isinstance(ip.ip, str) else ip.ip[0], str(adapter.name))
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]
    return order_addresses(found, _default_source())


def order_addresses(found: Iterable[tuple[str, str]], default: str | None) -> tuple[Address, ...]:
    """As `network_addresses`, of (address, name of its interface)."""
    inner = {ipaddress.ip_address(text): name.startswith(_INNER) for text, name in found}
    usable = [
        address for address in inner if not (address.is_loopback or address.is_link_local or address.is_unspecified)
    ]
    return tuple(
        sorted(usable, key=lambda address: (address.version, inner[address], str(address) != default, address.packed))
    )


def _default_source() -> str | None:
    """The address from which packets to the world would leave."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_host_name(text: str) -> bool:
    """Whether the text is a name as the DNS has them."""
    return re.fullmatch(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*", text) is not None


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool:
    """Whether the text is an IP address, or a network such as 10.0.0.0/8."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
