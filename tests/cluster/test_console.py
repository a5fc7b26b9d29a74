"""The console on a cluster, in a real browser with websockets."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from shoal import Client

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
PATIENCE = 30_000

pytestmark = pytest.mark.cluster


class Visit:
    """A browser's window, and what went on in it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.address = address
        self.context = browser.new_context(
            viewport={"width": 1280, "height": 900}, base_url=address
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.faults: list[str] = []
        self.sockets: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))
        self.page.on("request", self._request)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(
            (self.address, self.address.replace("http", "ws", 1), "data:", "blob:")
        ):
            self.faults.append(f"from elsewhere: {request.url}")
        if "transport=polling" in request.url:
            self.faults.append("fell back to polling")

    def sign_in(self, key: str, path: str = "/console/") -> Any:
        self.page.goto(path)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_function(
            "window.did_handshake"
        )  # before it, a click may overtake what was typed
        return self.page


@pytest.fixture
def visit(platform: Any, browser: Any) -> Iterator[Callable[[], Visit]]:
    visits: list[Visit] = []

    def new() -> Visit:
        visits.append(Visit(browser, platform.address))
        return visits[-1]

    yield new
    for each in visits:
        each.context.close()
        assert not each.faults


def test_the_landing_page_is_public_and_unknown_paths_are_404(platform: Any) -> None:
    front = httpx.get(f"{platform.address}/")
    assert front.status_code == 200 and 'href="/console/"' in front.text
    lost = httpx.get(f"{platform.address}/no/such/thing")
    assert lost.status_code == 404 and lost.headers["content-type"] == "application/problem+json"


def test_the_overview_shows_the_state_of_each_capability(
    platform: Any, acme: str, visit: Callable[[], Visit]
) -> None:
    here = visit()
    page = here.sign_in(platform.key(acme))
    expect(page.get_by_text("capabilities are running.")).to_be_visible(timeout=PATIENCE)
    card = page.locator("article").filter(has=page.get_by_role("link", name="Platform", exact=True))
    expect(card.get_by_text("running")).to_be_visible()
    assert here.sockets, "no websocket was opened"


def test_a_parameter_set_in_the_console_takes_effect(
    platform: Any, tenants: Callable[[], str], visit: Callable[[], Visit]
) -> None:
    key = platform.key(tenants())
    page = visit().sign_in(key, "/console/greeting/parameters")
    page.get_by_role("spinbutton", name="warmth").fill("0.25")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("own value")).to_be_visible(timeout=PATIENCE)
    with Client(platform.address, key) as client:
        assert client.platform.get_parameters(capability="greeting")["own"] == {"warmth": 0.25}


def test_console_search_finds_only_the_tenants_own_items(
    platform: Any, tenants: Callable[[], str], visit: Callable[[], Visit]
) -> None:
    texts = {
        tenants(): "The espresso machine leaks water",
        tenants(): "The espresso machine makes a terrible noise",
    }
    for tenant, text in texts.items():
        with platform.client(tenant, timeout=120) as client:
            item = {
                "id": "1",
                "board_id": "kitchen",
                "type": "item",
                "title": text,
                "text": text,
                "updated_at": datetime.now(UTC).isoformat(),
            }
            assert client.search.add_items(body=[item])["accepted"] == 1
    for tenant, text in texts.items():
        page = visit().sign_in(platform.key(tenant), "/console/search")
        page.get_by_label("Search by meaning or by words").fill("coffee maker is broken")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text(text).first).to_be_visible(timeout=PATIENCE)
        (other,) = set(texts.values()) - {text}
        assert other not in page.content()


def test_an_open_page_reloads_after_a_redeploy(
    platform: Any, tenants: Callable[[], str], visit: Callable[[], Visit]
) -> None:
    page = visit().sign_in(platform.key(tenants()), "/console/greeting/parameters")
    page.evaluate("window.drawnBefore = true")
    platform.shoal("deploy", "console")
    page.wait_for_function("!window.drawnBefore && window.did_handshake")
    page.get_by_role("spinbutton", name="warmth").fill("0.75")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("own value")).to_be_visible(timeout=PATIENCE)
