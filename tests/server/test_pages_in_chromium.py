import shutil
from pathlib import Path

import pytest

from shared.wire import to_wire

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)")
browsers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
SCREENSHOTS = Path(__file__).parents[2] / "artifacts" / "screenshots"
PLOTTED = ("table", "networks", "compare", "history", "found")


@pytest.fixture(scope="module")
def chromium():
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


class Visitor:
    """A browser window with a profile of its own; notes errors and requests."""

    def __init__(self, chromium, url, scheme="light", width=1280, **more):
        self.context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}, **more)
        self.page, self.url = self.context.new_page(), url
        self.problems, self.requested = [], []
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))

    def visit(self, path, name=""):
        self.page.goto(self.url + path)
        if name.startswith(PLOTTED):
            self.page.wait_for_selector("html[data-drawn]")

    def shoot(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def is_clean(self):
        assert self.problems == []
        assert [url for url in self.requested if not url.startswith((self.url, "data:"))] == []


@pytest.fixture
def visitor(chromium):
    made = []

    def make(url, **more):
        made.append(Visitor(chromium, url, **more))
        return made[-1]

    yield make
    for window in made:
        window.context.close()


def addresses(table_hash):
    return {
        "devices": "/",
        "device": "/devices/pi",
        "table": f"/tables/{table_hash}",
        "networks": f"/tables/{table_hash}/networks",
        "compare": "/compare?before=run-1&after=run-2",
        "history": "/history?device=pi",
        "jobs": "/jobs",
        "searches": "/searches",
        "found": f"/searches/{'a' * 64}",
    }


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_every_page_draws_without_an_error_or_a_foreign_request_and_fits_the_window(story, visitor, scheme, width):
    window = visitor(story.url, scheme=scheme, width=width)
    for name, path in addresses(story.table["hash"]).items():
        window.visit(path, name)
        assert window.page.evaluate("document.documentElement.scrollWidth") <= width, name
        background = window.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark"), (name, background)
        if name in PLOTTED:
            assert window.page.locator("figure .main-svg").count() > 0, name
        window.shoot(f"{name}-{scheme}-{width}")
    window.is_clean()


def test_clicks_lead_from_the_devices_to_a_table_its_networks_and_an_op_s_history(story, visitor):
    window = visitor(story.url)
    page = window.page
    window.visit("/")
    page.get_by_role("link", name="pi", exact=True).click()
    page.get_by_role("link", name=story.table["hash"][:10]).first.click()
    page.get_by_text("prices as a list").click()
    assert page.get_by_role("region", name="Prices").is_visible()
    page.get_by_role("link", name="12 networks").click()
    assert page.locator("tbody tr").count() == 12
    page.go_back()
    page.get_by_text("prices as a list").click()
    page.get_by_role("link", name="History of").first.click()
    versions = page.locator("tbody th").all_inner_texts()
    assert versions == ["onnxruntime 1.31.0", "onnxruntime 1.32.0"]
    window.is_clean()


def test_keyboard_alone_reaches_the_content_and_a_chosen_theme_stays(story, visitor):
    window = visitor(story.url)
    page = window.page
    window.visit("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    window.visit(addresses(story.table["hash"])["networks"], "networks")
    assert page.evaluate("document.documentElement.dataset.drawn") == "dark"
    window.is_clean()


def test_what_agents_say_is_text_and_never_markup(story, visitor):
    window = visitor(story.url)
    window.visit("/devices/pi")
    assert window.page.get_by_text("<script>document.title='taken over'</script>").is_visible()
    assert "taken over" not in window.page.title()
    window.is_clean()


def test_a_page_of_jobs_follows_what_happens(api, lab, visitor):
    table = lab.profile(api)
    window = visitor(api.url)
    window.visit("/jobs")
    assert window.page.get_by_text("None.").is_visible()
    job = api.post("/v1/jobs", to_wire(lab.verify_job(table))).json()["job"]
    window.page.get_by_text("No agent asks for the jobs of: pi").wait_for(timeout=5000)
    assert window.page.locator("tbody tr").count() == 1
    api.post(f"/v1/jobs/{job['id']}/cancel")
    window.page.locator("tbody .badge.cancelled").wait_for(timeout=5000)
    window.is_clean()


def test_a_closed_server_asks_for_a_token_first_and_forgets_it_after_signing_out(start, lab, visitor):
    with start(reads="closed") as api:
        lab.profile(api)
        window = visitor(api.url)
        page = window.page
        window.visit("/devices/pi?page=1")
        page.get_by_label("Token").fill(api.token("read"))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/devices/pi?page=1")
        (cookie,) = window.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        window.shoot("signed-in")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        assert window.context.cookies() == []
        window.visit("/")
        assert page.url.endswith("/login?next=%2F")
        window.shoot("sign-in")
        window.is_clean()


def test_pages_of_an_empty_server_say_what_to_do(api, visitor):
    window = visitor(api.url)
    for path in ("/", "/compare", "/history", "/jobs", "/searches"):
        window.visit(path)
    window.visit("/")
    assert window.page.get_by_text("profiler-agent profile").is_visible()
    window.shoot("empty")
    window.is_clean()
