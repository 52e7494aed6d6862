"""docs/images/report.png and docs/images/server-table.png: the report of a demo, and the server's page of its table.

Make it anew: make demo && python docs/figures/screenshots.py       (needs Debian's chromium)
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from figure import IMAGES
from playwright.sync_api import Page, sync_playwright

DEMO = Path("runs/demo").resolve()
SIZE = {"width": 1000, "height": 640}
LARGEST_BYTES = 250_000


def main() -> None:
    """Serve the demo's database on loopback, look at both pages, stop the server."""
    program = Path(sys.executable).parent / "lut-server"
    database = f"sqlite:///{DEMO / 'lutnas.db'}"
    command = [str(program), "serve", "--host", "127.0.0.1", "--port", "0", "--database-url", database]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server,
        sync_playwright() as playwright,
    ):
        assert server.stdout is not None
        listening = re.search(r"listening on (\S+)", server.stdout.readline())
        assert listening, "lut-server does not start on the demo's database"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        shoot(page, (DEMO / "report.html").as_uri(), "report", "Accuracy against latency")
        table = page.request.get(f"{listening[1]}/v1/tables").json()["tables"][-1]["hash"]
        shoot(page, f"{listening[1]}/tables/{table}", "server-table")
        browser.close()
        server.terminate()


def shoot(page: Page, url: str, name: str, heading: str | None = None) -> None:
    """Write docs/images/NAME.png: what a window of `SIZE` shows, from a heading on where one is named."""
    page.goto(url)
    page.wait_for_timeout(1000)
    if heading is not None:
        page.get_by_role("heading", name=heading, exact=True).evaluate("element => element.scrollIntoView()")
        page.wait_for_timeout(300)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    assert path.stat().st_size < LARGEST_BYTES, f"{path} has {path.stat().st_size} bytes"
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
