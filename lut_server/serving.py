"""Runs the application under uvicorn until a signal stops it."""

from __future__ import annotations

import copy
import ctypes
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG

from lut_server.http.connections import BoundedProtocol, TlsListener, allow_files
from lut_server.settings import Settings
from shared.errors import InvalidValue, LutnasError, in_one_line

if TYPE_CHECKING:
    from lut_server.tls.own_certificate import OwnCertificate

LOGGER = logging.getLogger("lut_server")
GRACE_S = 10
_TICKS_OF_AN_HOUR = 36_000
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Parameters of glibc's `mallopt`, from malloc.h."""
KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection, so that they close it first."""


class AnnouncingServer(uvicorn.Server):
    """A server that says its URL once it accepts connections."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[str], None], certificate: OwnCertificate | None = None
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
            LOGGER.info("Listening on %s (stop with Ctrl+C)", url)
            self._announce(url)

    async def on_tick(self, counter: int) -> bool:
        if self._certificate is not None and counter % _TICKS_OF_AN_HOUR == _TICKS_OF_AN_HOUR - 1:
            self.renew(self._certificate)
        return await super().on_tick(counter)

    def renew(self, certificate: OwnCertificate) -> None:
        """Show the certificate as it has to be now; connections that there are keep the old one."""
        assert self.config.ssl is not None
        try:
            self.config.ssl.load_cert_chain(certificate.ensure().path)
        except (LutnasError, OSError) as error:
            LOGGER.error("The certificate cannot be renewed: %s", error)


def serve(
    app: FastAPI, settings: Settings, announce: Callable[[str], None], certificate: OwnCertificate | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first.

    Args:
        certificate: the server's own, for HTTPS.

    Raises:
        InvalidValue: the certificate or its key cannot be used, or the host is no name.
        LutnasError: the address cannot be listened on.
    """
    _check_certificate(settings)
    listener = _listen(settings)
    config = make_config(
        app,
        settings,
        listener if isinstance(listener, TlsListener) else None,
        log_config=_logging(settings.log_format),
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.tls_cert or (None if certificate is None else certificate.ensure().path),
        ssl_keyfile=settings.tls_key or None,
    )
    # uvicorn raises the signal again once it has stopped; a graceful stop is no failure, so that
    # does nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    # What was loaded stays; an upload makes 100,000 objects, and none of them is part of a circle.
    gc.freeze()
    gc.set_threshold(50_000)
    # Threads that compute hand over sooner: the loop has many small things to do.
    sys.setswitchinterval(0.0002)
    # What is large goes back to the system when it is freed: glibc's threads would each keep some.
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 1 << 20)
        mallopt(_ARENA_MAX, 2)
    server = AnnouncingServer(config, announce, certificate)
    if isinstance(listener, TlsListener):
        listener.established = server.server_state.connections
    with listener:
        server.run(sockets=[listener])


def make_config(app: FastAPI, settings: Settings, listener: TlsListener | None = None, **more: Any) -> uvicorn.Config:
    """uvicorn's configuration, with the limits of the settings; `more` is for uvicorn."""
    protocol = partial(
        BoundedProtocol,
        max_connections=allow_files(settings.max_connections),
        max_head_s=settings.max_head_s,
        listener=listener,
    )
    return uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        root_path=settings.root_path,
        **more,
    )


def _check_certificate(settings: Settings) -> None:
    if not settings.tls_cert:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or getattr(error, "reason", None) or error
        raise InvalidValue("tls_cert", f"{settings.tls_cert} with {settings.tls_key}: {reason}") from error


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if settings.scheme == "https":
            most = allow_files(settings.max_connections)
            listener: socket.socket = TlsListener(family, kind, protocol, most, settings.max_head_s)
        else:
            listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise LutnasError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise InvalidValue("host", f"'{host[:80]}' is no host name: {in_one_line(error)}") from error
    return listener


def _logging(log_format: str) -> dict[str, Any]:
    """uvicorn's own, and a line per request, on stderr: callers read stdout."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["lut_server"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    # uvicorn's formatter copies each record to colour its level, which takes a tenth of a small
    # GET.
    line = "%(message)s" if log_format == "json" else "%(levelname)s:     %(message)s"
    config["formatters"]["request"] = {"format": line}
    config["handlers"]["request"] = {**config["handlers"]["default"], "formatter": "request"}
    config["loggers"]["lut_server.requests"] = {"handlers": ["request"], "level": "INFO", "propagate": False}
    return config
