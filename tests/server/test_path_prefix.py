"""The server below a path of a reverse proxy: every link, file and redirect stays below it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from lut_server.auth import create_token
from lut_server.store.sql import open_store
from shared.wire import to_wire

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIGURATION = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
daemon off;
{user}
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /lutnas/ {{
      proxy_pass {upstream}/;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.base, self.found = "", set()

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if tag == "base":
                self.base = value
            elif name in ("href", "src", "action") and not value.startswith("#"):
                self.found.add(value)


def links_of(url, text):
    parser = Links()
    parser.feed(text)
    return {urljoin(urljoin(url, parser.base), link) for link in parser.found}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def prefixed(tmp_path, lab):
    """A server's address behind a real nginx that shows it at /lutnas; and a token."""
    database = f"sqlite:///{tmp_path}/a.db"
    store = open_store(database)
    token = create_token(store.tokens, "admin")
    store.close()
    serve = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
    serve += ["--root-path", "/lutnas", "--reads", "closed", "--trusted-proxies", "127.0.0.1"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        upstream, port = server.stdout.readline().split()[-1], free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIGURATION.format(folder=tmp_path, port=port, upstream=upstream, user=user)
        (tmp_path / "nginx.conf").write_text(text)
        with subprocess.Popen([NGINX, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"]) as nginx:
            url = f"http://127.0.0.1:{port}/lutnas"
            for _ in range(100):
                try:
                    assert httpx.get(f"{url}/healthz").status_code == 200
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield url, token
            nginx.terminate()
        server.terminate()


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: apt-get install nginx-light)")
def test_everything_stays_below_the_path_of_a_reverse_proxy(prefixed, lab):
    url, token = prefixed
    with httpx.Client(base_url=f"{url}/", headers={"Authorization": f"Bearer {token}"}) as api:
        assert api.post("v1/devices", json={"name": "pi", "probe": {}}).status_code == 201
        api.put("v1/runs/run-1", json=to_wire(lab.run())).raise_for_status()
        batch = {"measurements": to_wire(lab.measure_all())}
        api.post("v1/runs/run-1/measurements", json=batch).raise_for_status()
        table = api.post("v1/runs/run-1/finish", json={"plan": to_wire(lab.plan)}).json()["table"]
        api.post("v1/jobs", json=to_wire(lab.verify_job(table))).raise_for_status()
        api.post("v1/searches", json=to_wire(lab.search_result(table["hash"]))).raise_for_status()
        assert api.delete("v1/devices").headers["allow"] == "GET, POST"
        script = api.get("agent/install.sh").text
        assert f"\nserved_from={url}\n" in script
        assert api.get("agent/web/settings.json").json()["spaces"]
    with httpx.Client() as browser:
        asked = browser.get(f"{url}/devices/pi?page=1")
        assert asked.status_code == 303
        form = urljoin(str(asked.url), asked.headers["location"])
        assert form.startswith(f"{url}/login?next=")
        again = re.search(r'name="next" value="([^"]*)"', browser.get(form).text).group(1)
        origin = {"Origin": url.removesuffix("/lutnas")}
        signed_in = browser.post(f"{url}/login", data={"token": token, "next": again}, headers=origin)
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/lutnas/devices/pi?page=1")
        assert "Path=/lutnas" in signed_in.headers["set-cookie"]
        elsewhere = browser.post(f"{url}/login", data={"token": token, "next": "/other"}, headers=origin)
        assert elsewhere.headers["location"] == "/lutnas/"
        left, seen = [f"{url}/", f"{url}/agent/web"], set()
        while left:
            address = left.pop()
            seen.add(address)
            answer = browser.get(address)
            assert answer.status_code == (401 if "/v1/" in address else 200), address  # the API takes no cookies
            if answer.headers["content-type"].startswith("text/html"):
                for link in links_of(address, answer.text):
                    assert link.startswith(f"{url}/"), (address, link)
                    if link not in seen and not link.endswith("/logout"):
                        left.append(link)
        assert len({urlsplit(address).path for address in seen}) > 12
        assert browser.post(f"{url}/logout", headers=origin).headers["location"] == "/lutnas/login"
