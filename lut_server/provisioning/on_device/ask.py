"""ask.py SERVER PATH [FILE SHA256]: GET, then print the answer, or write it if its SHA-256 is right.

The token for /v1 is in LUTNAS_TOKEN (not on a command line), authorities are in LUTNAS_CA_FILE.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TIMEOUT_S = 60


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for this server only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def main(arguments: Sequence[str]) -> None:
    """Raise SystemExit, with the line to print, on failure."""
    server, path, *target = arguments
    content = ask(server, path)
    if not target:
        print(content.decode("utf-8", "replace"))
        return
    file, sha256 = target
    if hashlib.sha256(content).hexdigest() != sha256:
        end(
            f"{server}{path} is not what this script was made for (SHA-256); if the server was upgraded, run this again"
        )
    Path(file).write_bytes(content)


def ask(server: str, path: str) -> bytes:
    token = os.environ.get("LUTNAS_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token and path.startswith("/v1/") else {}
    try:
        request = urllib.request.Request(server + path, headers=headers)
        opener = urllib.request.build_opener(Stay, trust(), *past_proxies(server))
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            if 300 <= error.code < 400:
                end(f"{server} redirects to {error.headers.get('Location')}; name that server with --lut-url")
            end(f"{server} refuses ({error.code}): {said(error)}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            end(
                f"the certificate of {server} is not trusted ({reason.verify_message}); if the server made it itself, "
                "name a copy of its ca.pem with --ca-file"
            )
        end(f"no answer from {server}{through(server)} ({reason}); is lut-server running there, and reached from here?")
    return b""


def past_proxies(server: str) -> list[urllib.request.ProxyHandler]:
    """A server on this machine is reached without a proxy."""
    host = urllib.parse.urlsplit(server).hostname or ""
    is_here = host in ("localhost", "::1") or host.startswith("127.")
    return [urllib.request.ProxyHandler({})] if is_here else []


def through(server: str) -> str:
    """The proxy of a request, without its password."""
    found = urllib.parse.urlsplit(server)
    proxy = urllib.request.getproxies().get(found.scheme, "")
    if not proxy or past_proxies(server) or urllib.request.proxy_bypass(found.netloc):
        return ""
    return f" through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]}"


def trust() -> urllib.request.HTTPSHandler:
    """Trust the public authorities, and those of LUTNAS_CA_FILE."""
    context = ssl.create_default_context()
    if os.environ.get("LUTNAS_CA_FILE"):
        context.load_verify_locations(os.environ["LUTNAS_CA_FILE"])
    return urllib.request.HTTPSHandler(context=context)


def said(error: urllib.error.HTTPError) -> str:
    """The server's message, if there is one."""
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)


def end(message: str) -> None:
    """Exit with 1 and a line."""
    sys.exit(f"install.sh: {' '.join(message.split())}")


if __name__ == "__main__":
    main(sys.argv[1:])
