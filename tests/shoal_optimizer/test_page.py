"""The page in a real browser, against real routes on a real Redis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def window(shoal_console: Callable[[Path], Any], browser: Any) -> Any:
    served = shoal_console(Path(__file__).with_name("serve.py"))
    page = browser.new_context(
        viewport={"width": 1280, "height": 1400}, base_url=served.address
    ).new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.goto("/console/optimizer")
    page.get_by_label("API key").fill(served.keys["acme"]["editor"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_function("window.did_handshake")
    page.goto("/console/optimizer")
    return page


def test_a_task_is_planned_explained_and_accepted(window: Any) -> None:
    expect(window.get_by_text("Recommended team, proved optimal")).to_be_visible()
    expect(window.get_by_text("Ana · lead")).to_be_visible()
    expect(window.get_by_role("cell", name="Cy")).to_be_visible()

    window.get_by_role("button", name="Suggest alternative").click()
    expect(window.get_by_text("Bo · lead")).to_be_visible()

    window.get_by_role("button", name="Assign manually").click()
    window.get_by_label("People").click()
    window.get_by_role("option", name="Cy").click()
    window.keyboard.press("Escape")
    window.get_by_role("button", name="Assign", exact=True).click()
    expect(window.get_by_text("Team of 2 is over the limit of 1")).to_be_visible()
    window.get_by_role("button", name="Cancel").click()

    window.get_by_role("button", name="Accept").click()
    expect(
        window.get_by_text("Accepted. The team's workloads now include the task.")
    ).to_be_visible()

    window.get_by_role("link", name="Plan", exact=True).click()
    window.get_by_role("button", name="Plan all open tasks").click()
    expect(window.get_by_text("1 of 2 tasks have a team; optimal", exact=False)).to_be_visible()
    window.reload()  # the plan has an address
    expect(window.get_by_text("Payroll has no team: nobody has Cobol")).to_be_visible()
