"""The page in a real browser, against real routes on a real Redis."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server on the PATH")
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("serve.py"))], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the platform did not start"
        yield SimpleNamespace(**json.loads(line))
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def window(served: Any) -> Iterator[Any]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_context(viewport={"width": 1280, "height": 1400}, base_url=served.address).new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.goto("/console/optimizer")
        page.get_by_label("API key").fill(served.keys["acme"]["editor"])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_function("window.did_handshake")
        page.goto("/console/optimizer")
        yield page
        browser.close()


def test_a_task_is_planned_explained_and_accepted(window: Any) -> None:
    expect(window.get_by_text("Recommended team, proved the best")).to_be_visible()
    expect(window.get_by_text("Ana · lead")).to_be_visible()
    expect(window.get_by_role("cell", name="Cy")).to_be_visible()

    window.get_by_role("button", name="Suggest alternative").click()
    expect(window.get_by_text("Bo · lead")).to_be_visible()

    window.get_by_role("button", name="Assign manually").click()
    window.get_by_label("People").click()
    window.get_by_role("option", name="Cy").click()
    window.keyboard.press("Escape")
    window.get_by_role("button", name="Assign", exact=True).click()
    expect(window.get_by_text("1 too many: the team has 2")).to_be_visible()
    window.get_by_role("button", name="Cancel").click()

    window.get_by_role("button", name="Accept").click()
    expect(window.get_by_text("Accepted: the team's workloads include the task now.")).to_be_visible()

    window.get_by_role("tab", name="Plan").click()
    window.get_by_role("button", name="Plan all open tasks").click()
    expect(window.get_by_text("1 of 2 tasks have a team; optimal", exact=False)).to_be_visible()
    expect(window.get_by_text("Ledger is left out: nobody has Cobol")).to_be_visible()
