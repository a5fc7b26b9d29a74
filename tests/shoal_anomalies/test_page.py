"""The page in a real browser, against real routes on a real Redis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def window(serving: Callable[[Path], Any], browser: Any) -> Any:
    served = serving(Path(__file__).with_name("serve.py"))
    page = browser.new_context(viewport={"width": 1280, "height": 1400}, base_url=served.address).new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.goto("/console/anomalies")
    page.get_by_label("API key").fill(served.keys["acme"]["editor"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_function("window.did_handshake")
    page.goto("/console/anomalies")
    return page


def test_the_alert_is_shown_as_one_with_its_reason_and_taken_in_hand(window: Any) -> None:
    expect(window.get_by_text("Alerts: 1 open")).to_be_visible()
    expect(window.get_by_text("error_rate is", exact=False).first).to_be_visible()
    expect(window.get_by_text("metrics: error_rate, latency_ms").first).to_be_visible()
    window.get_by_role("button", name="Acknowledge").click()
    expect(window.get_by_text("acknowledged since", exact=False)).to_be_visible()
    expect(window.get_by_role("button", name="Acknowledge")).to_have_count(0)


def test_the_series_is_drawn_with_its_flagged_points_and_takes_feedback(window: Any) -> None:
    expect(window.locator("canvas").first).to_be_visible()
    drawn = window.evaluate(
        "() => [...document.querySelectorAll('.nicegui-echart')].map(e => getElement(Number(e.id.slice(1))).chart.getOption()"
        ".series.map(s => [s.type, s.name, s.data.length]))"
    )
    series = {name: count for chart in drawn for kind, name, count in chart if kind != "heatmap"}
    assert series.get("anomaly", 0) >= 1 and max(series.values()) == 600
    before = window.get_by_role("button", name="Not an anomaly").count()
    window.get_by_role("button", name="Not an anomaly").first.click()
    expect(window.get_by_role("button", name="Not an anomaly")).to_have_count(before - 1)


def test_a_maintenance_window_is_made_shown_and_removed(window: Any) -> None:
    window.get_by_label("Name").fill("upgrade")
    window.get_by_role("button", name="Hold alerts back").click()
    expect(window.get_by_text("upgrade:", exact=False)).to_be_visible()
    window.get_by_role("button", name="Remove").click()
    expect(window.get_by_text("upgrade:", exact=False)).to_have_count(0)


def test_the_heat_map_is_drawn(window: Any) -> None:
    expect(window.get_by_text("Anomalies by metric", exact=False)).to_be_visible()
