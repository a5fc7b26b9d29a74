"""The page in a browser: the form with its sample size, the list, and the results."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from shoal import Client

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

OPTIONS = (
    "[...document.querySelectorAll('.nicegui-echart')]"
    ".map(e => getElement(Number(e.id.slice(1))).chart.getOption())"
)
"""JavaScript that gives the options of the page's charts."""


@pytest.fixture
def page(served: Any, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, base_url=served.address)
    window = context.new_page()
    window.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    window.goto("/console/experiments")
    window.get_by_label("API key").fill(served.keys["globex"]["editor"])
    window.get_by_role("button", name="Sign in").click()
    window.wait_for_function("window.did_handshake")
    yield window
    context.close()


def test_an_experiment_runs_from_draft_to_decision(served: Any, page: Any, tmp_path: Any) -> None:
    page.goto("/console/experiments")
    page.get_by_role("button", name="New experiment").click()
    expect(page.get_by_text("units per arm")).to_contain_text("3,841 units per arm, 7,682 in all.")
    page.get_by_label("Minimum effect").fill("0.3")
    expect(page.get_by_text("units per arm")).to_contain_text("32 units per arm")
    page.get_by_label("Minimum effect").fill("0.95")
    expect(page.get_by_text("No sample size yet")).to_contain_text("between 0 and 1")
    page.get_by_label("Minimum effect").fill("0.3")
    page.get_by_label("Units per day").fill("10")
    expect(page.get_by_text("units per arm")).to_contain_text("At 10 units per day: 7 days.")
    page.get_by_label("Variants", exact=True).fill("control 80\ntreatment 20")
    expect(page.get_by_text("in the smallest arm,")).to_be_visible()
    page.get_by_label("Variants", exact=True).fill("control 50\ntreatment 50")
    page.get_by_role("combobox", name="Analysis").press("Enter")
    page.get_by_role("option", name="Always valid").click()
    expect(page.get_by_text("units per arm")).to_contain_text("100 units per arm")
    page.get_by_role("combobox", name="Analysis").press("Enter")
    page.get_by_role("option", name="Fixed horizon").click()
    expect(page.get_by_text("units per arm")).to_contain_text("32 units per arm")
    page.get_by_label("Experiment ID").fill("green-button")
    page.get_by_label("Hypothesis").fill("<b>Green</b> is seen sooner.")
    page.get_by_label("Days (optional)").fill("0")
    page.get_by_role("button", name="Save the draft").click()
    expect(page.get_by_text("draft", exact=True)).to_be_visible()
    expect(page.get_by_text("<b>Green</b> is seen sooner.")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("inconclusive", exact=True)).to_be_visible()
    expect(page.locator("canvas")).to_have_count(0)

    with Client(served.address, served.keys["globex"]["editor"]) as client:
        rng = random.Random(3)
        for i in range(90):
            arm = client.experiments.assignment(id="green-button", unit=f"u{i}")["variant"]
            if rng.random() < (0.8 if arm == "treatment" else 0.1):
                client.experiments.add_outcomes(id="green-button", body=[{"unit": f"u{i}"}])
    page.get_by_role("link", name="All experiments").click()
    page.get_by_role("link", name="green-button").press("Enter")
    page.wait_for_url("**/experiments?id=green-button")
    page.reload()
    expect(page.get_by_text("ship", exact=True)).to_be_visible()
    for description in ("Effects with their intervals", "The effect of treatment over time"):
        expect(page.get_by_label(description).locator("canvas")).to_be_visible()
    intervals, timeline = page.evaluate(OPTIONS)
    assert intervals["yAxis"][0]["data"] == ["bought: treatment"]
    assert [series["name"] for series in intervals["series"]] == ["bought: treatment", "effect"]
    assert [series["name"] for series in timeline["series"]] == ["lower", "interval", "effect"]
    expect(page.get_by_text("Chance to be best")).to_be_visible()
    page.screenshot(path=str(tmp_path / "results.png"), full_page=True)
    page.get_by_role("button", name="Promote…").click()
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_text("promoted", exact=True)).to_be_visible()


def test_a_bad_draft_is_explained(page: Any) -> None:
    page.goto("/console/experiments")
    page.get_by_role("button", name="New experiment").click()
    page.get_by_label("Hypothesis").fill("x")
    page.get_by_label("Variants", exact=True).fill("a 50\nb 40")
    expect(page.get_by_text("No sample size yet")).to_contain_text("sum to 100 percent, not 90")
    page.get_by_role("button", name="Save the draft").click()
    expect(page.locator(".q-notification")).to_contain_text("sum to 100 percent, not 90")
