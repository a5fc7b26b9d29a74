"""Pages that stay open: in the reader's time zone, up to date, and no longer than the
session.
"""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=20_000)  # a loaded machine may take its time


class Reader:
    """A browser profile with a key of its own."""

    def __init__(self, served: Any, browser: Any, role: str, zone: str) -> None:
        self.address = served.address
        self.admin = {"Authorization": f"Bearer {served.keys['acme']['admin']}"}
        made = self._post("/platform/tenants/acme/keys", {"role": role})
        self.key_id, self.key = made["id"], made["key"]
        self.context = browser.new_context(base_url=self.address, timezone_id=zone)
        page = self.context.new_page()
        page.goto("/console/")
        page.get_by_label("API key").fill(self.key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/")
        page.close()

    def _post(self, path: str, body: Any) -> Any:
        answer = httpx.post(self.address + path, json=body, headers=self.admin)
        assert answer.is_success, answer.text
        return answer.json()

    def open(self, path: str) -> Any:
        page = self.context.new_page()
        page.goto(f"/console{path}")
        page.wait_for_function("window.did_handshake")
        return page

    def revoke(self) -> None:
        answer = httpx.delete(f"{self.address}/platform/keys/{self.key_id}", headers=self.admin)
        assert answer.is_success, answer.text

    def run_job(self) -> None:
        self._post("/platform/jobs/greeting.recite/runs", {"arguments": {}})


@pytest.fixture
def reader(served: Any, browser: Any) -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def make(role: str = "editor", zone: str = "America/Los_Angeles") -> Reader:
        made.append(Reader(served, browser, role, zone))
        return made[-1]

    yield make
    for one in made:
        one.context.close()


def test_times_are_in_the_readers_zone_which_is_named(reader: Callable[..., Reader]) -> None:
    page = reader().open("/greeting")
    expect(page.get_by_text("Rehearsed 30 Jun, 23:05")).to_be_visible()
    expect(page.get_by_text("Times in America/Los_Angeles (UTC-0", exact=False)).to_be_visible()
    elsewhere = {"name": "shoal_zone", "value": "Europe/Warsaw", "url": page.url}
    page.context.add_cookies([elsewhere])
    page.reload()  # drawn for Warsaw, and by the script once more for here
    expect(page.get_by_text("Rehearsed 30 Jun, 23:05")).to_be_visible()


def test_signing_out_ends_the_pages_of_all_tabs(reader: Callable[..., Reader]) -> None:
    mine, other = reader(), reader()
    stays = other.open("/greeting/parameters")
    tabs = [mine.open("/greeting/parameters"), mine.open("/greeting/jobs")]
    mine.open("/").get_by_role("button", name="Sign out").click()
    for tab in tabs:
        tab.wait_for_url("**/console/sign-in?**")
        expect(tab.get_by_role("alert")).to_contain_text("You signed out in another tab")
    expect(stays.get_by_role("button", name="Save")).to_be_visible()


def test_a_revoked_key_ends_its_pages(reader: Callable[..., Reader]) -> None:
    mine = reader()
    page = mine.open("/greeting/parameters")
    mine.revoke()
    page.wait_for_url("**/console/sign-in?**")
    expect(page.get_by_role("alert")).to_contain_text("no longer has access")
    assert "after=/console/greeting/parameters" in page.url


def test_a_page_shows_what_others_do_and_its_age(reader: Callable[..., Reader]) -> None:
    mine = reader()
    page = mine.open("/greeting/jobs")
    before = page.get_by_text("queued", exact=True).count()
    expect(page.get_by_text("Updated just now")).to_be_visible()
    mine.run_job()
    expect(page.get_by_text("queued", exact=True)).to_have_count(before + 1)


def test_the_overview_counts_what_fails(reader: Callable[..., Reader]) -> None:
    page = reader(role="reader").open("/")
    expect(page.get_by_role("heading", name="What needs someone now")).to_be_visible()
    expect(page.get_by_text("none failed or late in 24 hours")).to_be_visible()
    expect(page.get_by_text("none rejected or undeliverable")).to_be_visible()
    expect(page.get_by_text("Updated just now")).to_be_visible()


def test_a_page_says_that_its_connection_is_lost(reader: Callable[..., Reader]) -> None:
    mine = reader()
    page = mine.open("/greeting/jobs")
    expect(page.get_by_text("Updated just now")).to_be_visible()
    mine.context.set_offline(True)
    expect(page.get_by_text("Connection lost. Updated", exact=False)).to_be_visible()
    mine.context.set_offline(False)
    expect(page.get_by_text("Updated just now")).to_be_visible()
