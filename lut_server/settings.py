"""Every setting of the server, once: its name gives the flag, the environment variable and the line
in docs/server.md.

A flag wins over the environment, the environment over the default. A switch is a string, "yes" or
"no". docker-compose.yml passes only LUTNAS_DATABASE_URL and LUTNAS_READS to the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from lut_server.addresses import is_address, is_host_name, is_network
from shared.errors import InvalidValue


@dataclass(frozen=True)
class Setting:
    """One row of the table of settings."""

    name: str
    default: str | int
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """As on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "LUTNAS_" + self.name.upper()

    @property
    def kind(self) -> Callable[[str], str | int]:
        """What reads it from text."""
        return type(self.default)


def _setting(default: Any, help_text: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help_text, "choices": choices})


_MOST = {"max_body_s": 3600, "max_body_mb": 4096, "max_graph_mb": 4096, "max_connections": 10_000, "max_head_s": 3600}


@dataclass(frozen=True)
class Settings:
    """Values of all settings."""

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8700, "port to listen on; 0 takes a free one and prints it")
    database_url: str = _setting("sqlite:///lutnas.db", "SQLAlchemy URL of the database")
    reads: str = _setting("open", "whether reading needs a token (writing always does)", ("open", "closed"))
    max_body_mb: int = _setting(64, "largest request body in MiB, after decompression")
    max_body_s: int = _setting(60, "longest time in s that a request's body may take to arrive")
    max_graph_mb: int = _setting(
        256, "most memory in MiB that building a graph may take; in a container at most a sixth of its own"
    )
    max_connections: int = _setting(500, "most connections at a time; the oldest without a request gives way")
    max_head_s: int = _setting(10, "longest time in s that the head of a request may take to arrive")
    trusted_proxies: str = _setting(
        "", "addresses and networks of proxies whose X-Forwarded-For and -Proto are believed, separated by commas"
    )
    allowed_hosts: str = _setting(
        "", "host names that requests may be for, separated by commas; without them any, or on loopback localhost"
    )
    root_path: str = _setting("", "path at which a reverse proxy shows the server, for example `/lutnas`")
    audit_log: str = _setting("", "file for the audit log of writes; without one they go to stderr")
    log_format: str = _setting("text", "one line per request, as text or as JSON", ("text", "json"))
    tls: str = _setting(
        "off",
        "`self-signed`: HTTPS with a certificate that the server makes itself (extra `tls`)",
        ("off", "self-signed"),
    )
    tls_dir: str = _setting("", "folder of that certificate; without one it is kept beside the SQLite database")
    tls_names: str = _setting("", "more host names and addresses for it, separated by commas")
    tls_cert: str = _setting("", "PEM file of the certificate chain, for HTTPS")
    tls_key: str = _setting("", "PEM file of the certificate's private key")
    first_token: str = _setting(
        "no", "whether a server without tokens makes one of role admin and prints it", ("no", "yes")
    )
    web_runtime: str = _setting("", "folder of onnxruntime-web; without one `web-runtime` beside an SQLite database")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidValue("port", f"{self.port} is not within 0 to 65535")
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            if setting.choices and value not in setting.choices:
                raise InvalidValue(setting.name, f"'{value}' is neither {' nor '.join(setting.choices)}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise InvalidValue("tls_cert", "needs tls_key beside it, and the other way round")
        if self.tls != "off" and self.tls_cert:
            raise InvalidValue(
                "tls", f"{self.tls} makes a certificate, and tls_cert names another; give only one of the two"
            )
        for name in split_names(self.tls_names):
            if not is_address(name) and not is_host_name(name):
                raise InvalidValue("tls_names", f"'{name[:80]}' is neither a host name nor an address")
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise InvalidValue(name, f"{getattr(self, name)} is not within 1 to {most}")
        for proxy in split_names(self.trusted_proxies):
            if not is_network(proxy):
                raise InvalidValue("trusted_proxies", f"'{proxy[:80]}' is neither an address nor a network")
        for name in split_names(self.allowed_hosts):
            if name != "*" and not is_host_name(name) and not is_address(name):
                raise InvalidValue("allowed_hosts", f"'{name[:80]}' is neither a host name nor an address, nor *")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", self.root_path):
            raise InvalidValue("root_path", f"'{self.root_path[:80]}' is no path such as /lutnas")

    @property
    def scheme(self) -> str:
        """`https` where answers go out over TLS, else `http`."""
        return "https" if self.tls_cert or self.tls != "off" else "http"

    @property
    def database_path(self) -> Path | None:
        """SQLite's file; None for another database."""
        try:
            url = make_url(self.database_url)
        except ArgumentError:
            return None
        is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        return Path(str(url.database)) if is_file else None

    @property
    def max_body_bytes(self) -> int:
        """Largest request body in bytes."""
        return self.max_body_mb << 20


def split_names(text: str) -> tuple[str, ...]:
    """Names that commas separate."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


SETTINGS = tuple(Setting(each.name, getattr(Settings, each.name), **each.metadata) for each in fields(Settings))


def read_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings from parsed flags (None or absent: not given) and the environment.

    Raises:
        InvalidValue: a value outside its domain; names the flag or the variable.
    """
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if flags.get(setting.name) is not None:
            values[setting.name] = flags[setting.name]
        elif setting.variable in environment:
            values[setting.name] = _from_text(setting, environment[setting.variable])
    return Settings(**values)


def _from_text(setting: Setting, text: str) -> str | int:
    try:
        return setting.kind(text)
    except ValueError as error:
        raise InvalidValue(setting.variable, f"'{text[:80]}' is not a whole number") from error
