"""The server's yardstick: a bare FastAPI route that returns the bytes of a file, or a bare 304.

`python -m benchmarks.server.bare_app FILE` serves FILE on a free loopback port, with lut-server's
uvicorn but none of its limits: eight answers of 20 MB that wait to be read would be too many.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response

from lut_server.serving import AnnouncingServer


def make_app(content: bytes) -> FastAPI:
    """Two routes and nothing else."""
    app = FastAPI(openapi_url=None)

    @app.get("/bytes")
    def get_bytes() -> Response:
        return Response(content, media_type="application/json", headers={"ETag": '"bare"', "Cache-Control": "no-cache"})

    @app.get("/not-modified")
    def get_not_modified() -> Response:
        return Response(status_code=304, headers={"ETag": '"bare"', "Cache-Control": "no-cache"})

    return app


if __name__ == "__main__":
    app = make_app(Path(sys.argv[1]).read_bytes())
    config = uvicorn.Config(app, port=0, http="h11", ws="none", access_log=False, server_header=False)
    AnnouncingServer(config, lambda url: print(f"listening on {url}", flush=True)).run()
