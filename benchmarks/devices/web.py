"""The error of tables from a browser: campaigns in Chromium with the viewport of a phone.

nas-bench-201 with C=8, 1 cell per stage, 32 x 32; 40 networks in the fit, 40 held out; WebAssembly,
one thread. Each campaign is a browser with an empty profile, paired by a link as a phone is, with
its own run and table. The errors are those in each table, on held-out networks. The time of a
campaign is from the press of the button to the table. The variation of an entry (12 op keys and 80
networks) is that of its ratio to the canary over the campaigns.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from benchmarks import DataMissing, Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, StackError, database_url, running_stack, script
from lut_server.web_agent.web_runtime import INSTALL, VERSION
from shared.measurements.measurement import Measurement
from shared.wire import from_wire

CAMPAIGNS = 3
SIZES = "space=nas-bench-201&resolution=32&channels=8&depth=1&calibration=40&held_out=40&preset=standard"
DEVICE = "browser"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
PATIENCE_S = 600


@dataclass(frozen=True)
class WebCampaign:
    """A campaign: its time, its table, and its ratios by graph."""

    seconds: float
    table: Mapping[str, Any]
    ratios: Mapping[str, float]


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `devices.web.*`; takes about five minutes."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise DataMissing("there is no chromium here (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            _lut_server(folder, "web-runtime", "install")
        except StackError as error:
            raise DataMissing(f"onnxruntime-web {VERSION} is not here, and `{INSTALL}` fails: {error}") from error
        with running_stack(folder) as stack:
            campaigns = [_campaign(stack, chromium, number, progress) for number in range(CAMPAIGNS)]
    return figures_of(campaigns)


def figures_of(campaigns: Sequence[WebCampaign]) -> dict[str, Figure]:
    """Means over the campaigns, with their ranges."""
    errors = [campaign.table["held_out"] for campaign in campaigns]
    n = len(campaigns)

    def mean(values: Sequence[float], unit: str | None, bar: str | None) -> Figure:
        return Figure(value=fmean(values), unit=unit, n=n, spread=f"{min(values):.3g} to {max(values):.3g}", bar=bar)

    subjects = campaigns[0].ratios.keys()
    variation = [_variation_percent([campaign.ratios[subject] for campaign in campaigns]) for subject in subjects]
    seconds = [campaign.seconds for campaign in campaigns]
    figures = {
        "mape_percent": mean([error["mape_percent"] for error in errors], "%", "<= 3"),
        "within_10_percent": mean([error["within_10_percent"] for error in errors], "%", ">= 97"),
        "within_5_percent": mean([error["within_5_percent"] for error in errors], "%", None),
        "kendall_tau": mean([error["kendall_tau"] for error in errors], None, None),
        "cv_median_percent": Figure(
            value=median(variation), unit="%", n=len(variation), spread=f"worst {max(variation):.2g}", bar="<= 2"
        ),
        "campaign_seconds": Figure(
            value=max(seconds), unit="s", n=n, spread=f"{min(seconds):.0f} to {max(seconds):.0f}", bar="<= 120"
        ),
    }
    return {f"devices.web.{name}": figure for name, figure in figures.items()}


def _variation_percent(values: Sequence[float]) -> float:
    return 100 * stdev(values) / fmean(values)


def _campaign(stack: Stack, chromium: str, number: int, progress: Progress) -> WebCampaign:
    device = f"{DEVICE}-{number + 1}"
    seconds = _measure(f"{_pairing_link(stack, device)}&{SIZES}", chromium)
    table = _get(stack, f"/v1/devices/{device}/table")
    measurements = _get(stack, f"/v1/runs/{table['runs'][0]}/measurements")["measurements"]
    found = [from_wire(Measurement, measurement) for measurement in measurements]
    ratios = {
        measurement.graph: measurement.estimate().ratio for measurement in found if measurement.role != "isolated"
    }
    error = table["held_out"]["mape_percent"]
    progress(f"campaign {number + 1} of {CAMPAIGNS}: {seconds:.0f} s, held-out error {error:.2f} %")
    return WebCampaign(seconds, table, ratios)


def _measure(link: str, chromium: str) -> float:
    """Seconds of a campaign in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        try:
            page = browser.new_page(viewport={"width": 390, "height": 844})
            page.goto(link)
            page.locator("#choosing").wait_for()
            start_s = time.monotonic()
            page.get_by_role("button", name="Measure this device").click()
            page.locator("#result").wait_for(timeout=1000 * PATIENCE_S)
            return time.monotonic() - start_s
        finally:
            browser.close()


def _pairing_link(stack: Stack, device: str) -> str:
    said = _lut_server(stack.folder, "pair", "--device", device, "--server-url", stack.url)
    found = re.search(r"^http\S+#\S+$", said, re.MULTILINE)
    if found is None:
        raise StackError(f"`lut-server pair` printed no link: {said[:200]}")
    return found.group(0)


def _lut_server(folder: Path, *arguments: str) -> str:
    command = script(["lut-server", *arguments, "--database-url", database_url(folder)])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(done.stderr.strip())
    return done.stdout


def _get(stack: Stack, path: str) -> Any:
    with urllib.request.urlopen(stack.url + path, timeout=30) as answer:
        return json.loads(answer.read())
