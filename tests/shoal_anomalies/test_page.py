"""The page in a real browser, against real routes on a real Redis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect

# The options of all charts drawn so far.
CHARTS = (
    "[...document.querySelectorAll('.nicegui-echart')]"
    ".map(e => getElement(Number(e.id.slice(1)))?.chart?.getOption())"
    ".filter(o => o && o.series)"
)


@pytest.fixture(scope="module")
def served(shoal_console: Callable[[Path], Any]) -> Any:
    return shoal_console(Path(__file__).with_name("serve.py"))


def signed_in(browser: Any, served: Any, key: str) -> Any:
    page = browser.new_context(
        viewport={"width": 1280, "height": 1400},
        base_url=served.address,
        timezone_id="America/Los_Angeles",
    ).new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.goto("/console/anomalies")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_function("window.did_handshake")
    page.goto("/console/anomalies")
    return page


@pytest.fixture(scope="module")
def window(served: Any, browser: Any) -> Any:
    return signed_in(browser, served, served.keys["acme"]["editor"])


def test_an_alert_shows_its_reason_and_can_be_acknowledged(window: Any) -> None:
    expect(window.get_by_text("Alerts: 1 open")).to_be_visible()
    expect(window.get_by_text("error_rate is", exact=False).first).to_be_visible()
    expect(window.get_by_text("metrics: error_rate, latency_ms").first).to_be_visible()
    window.get_by_role("button", name="Acknowledge").click()
    expect(window.get_by_text("; acknowledged ", exact=False)).to_be_visible()
    expect(window.get_by_role("button", name="Acknowledge")).to_have_count(0)


def test_a_series_shows_band_and_anomalies_and_takes_feedback(window: Any) -> None:
    window.get_by_label("Series").click()
    window.get_by_role("option", name="error_rate").click()
    expect(window.locator("canvas").first).to_be_visible()
    window.wait_for_function(
        f"() => {CHARTS}.some(o => o.series.some(s => s.name === 'error_rate'))"
    )
    drawn = window.evaluate(
        f"() => {CHARTS}.map(o => o.series.map(s => [s.type, s.name, s.data.length]))"
    )
    series = {name: count for chart in drawn for kind, name, count in chart if kind != "heatmap"}
    assert (
        series.get("anomaly", 0) >= 1
        and series["error_rate"] == series["expected"] == series["band"] == 600
    )
    before = window.get_by_role("button", name="Not an anomaly").count()
    window.get_by_role("button", name="Not an anomaly").first.click()
    expect(window.get_by_role("button", name="Not an anomaly")).to_have_count(before - 1)


def test_a_maintenance_window_says_what_it_silences_and_asks(window: Any) -> None:
    window.get_by_role("button", name="Add maintenance window").click()
    expect(window.get_by_text("Enter a name and metrics and a reason.")).to_be_visible()
    window.get_by_label("Name").fill("upgrade")
    window.get_by_label("Metrics").fill("error*")
    expect(window.get_by_text("It would silence 1 of 2 series: error_rate")).to_be_visible()
    window.get_by_label("Reason").fill("A new database.")
    window.get_by_label("Start (America/Los_Angeles)").fill("2050-11-28T14:05")
    window.get_by_label("End (America/Los_Angeles)").fill("2050-11-28T13:05")
    window.get_by_role("button", name="Add maintenance window").click()
    expect(window.get_by_text("The end must be after the start.")).to_be_visible()
    window.get_by_label("End (America/Los_Angeles)").fill("2050-11-28T16:35")
    window.get_by_role("button", name="Add maintenance window").click()
    expect(window.get_by_role("dialog")).to_contain_text("16:35 (America/Los_Angeles), 2 h 30 min")
    window.get_by_role("button", name="Silence these alerts").click()
    expect(window.get_by_text("upgrade: 28 Nov 2050, 14:05 to", exact=False)).to_be_visible()
    expect(window.get_by_label("Name")).to_have_value("")
    window.get_by_role("button", name="Remove upgrade").click()
    window.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(window.get_by_text("upgrade:", exact=False)).to_have_count(0)


def test_the_heat_map_is_drawn(window: Any) -> None:
    expect(window.get_by_text("Anomalies by metric", exact=False)).to_be_visible()


def test_suggested_parameters_are_shown_and_can_be_applied(window: Any) -> None:
    expect(window.get_by_text("sensitivity_threshold 4", exact=False)).to_be_visible()
    window.get_by_role("button", name="Use them").click()
    expect(window.get_by_text("Takes effect with the next point.")).to_be_visible()
    expect(window.get_by_role("button", name="Use them")).to_have_count(0)


def test_the_operator_sees_the_open_alerts_of_every_tenant(served: Any, browser: Any) -> None:
    page = signed_in(browser, served, served.keys["platform"]["admin"])
    expect(page.get_by_text("Open alerts by tenant and priority")).to_be_visible()
    expect(page.locator(".nicegui-echart canvas").last).to_be_visible()
    heat_maps = (
        f"{CHARTS}.filter(o => o.series[0].type === 'heatmap')"
        ".map(o => [o.yAxis[0].data, o.series[0].data.map(c => c.value ?? c)])"
    )
    page.wait_for_function(f"() => {heat_maps}.length")
    (heat,) = page.evaluate(f"() => {heat_maps}")
    assert heat == [
        ["acme", "globex"],
        [[0, 0, 1], [1, 0, 0], [2, 0, 2], [0, 1, 0], [1, 1, 0], [2, 1, 0]],
    ]
