"""What needs someone now, on the overview: one line for each kind, with a link."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from shoal.contract.errors import ShoalError

from .elements import draw_heading, draw_pill
from .messages import describe_error
from .open_pages import OpenPage

RECENT = timedelta(hours=24)
"""How long a failed or late job run needs someone."""
MAX_ROWS = 1_000
"""Rows of each list that are counted."""


@dataclass(frozen=True, slots=True)
class Matter:
    """One kind of thing that may need someone.

    Attributes:
        title: What it is.
        text: How many there are.
        target: The page that shows them.
        style: `sh-good`, `sh-warn` or `sh-bad`.
    """

    title: str
    text: str
    target: str
    style: str


async def draw_attention(page: OpenPage, capabilities: list[dict[str, Any]]) -> None:
    """Draw what needs someone now, again whenever something changes."""
    if not page.may("read:tenant"):
        return
    deployed = {capability["name"] for capability in capabilities}
    finders: list[Callable[[], Awaitable[list[Matter]]]] = [
        lambda: _find_runs(page),
        lambda: _find_events(page, capabilities),
        lambda: _find_quotas(page),
    ]
    if "anomalies" in deployed:
        finders.insert(0, lambda: _find_alerts(page))
    if "experiments" in deployed:
        finders.append(lambda: _find_experiments(page))
    draw_heading("What needs someone now")
    card = ui.element("section").classes("sh-card w-full flex flex-col")

    async def draw() -> None:
        found = await asyncio.gather(*(_find(finder) for finder in finders))
        card.clear()
        with card:
            for matter in (matter for matters in found for matter in matters):
                with ui.row().classes("items-center w-full").style("gap:4px 12px"):
                    draw_pill(matter.title, matter.style)
                    ui.link(matter.text, matter.target).classes("sh-link")

    await draw()
    page.on_change(draw)


async def _find(finder: Callable[[], Awaitable[list[Matter]]]) -> list[Matter]:
    """What a finder finds; where it fails, that."""
    try:
        return await finder()
    except ShoalError as error:
        return [Matter("Unknown", describe_error(error), "/", "sh-warn")]


async def _find_alerts(page: OpenPage) -> list[Matter]:
    listed = await page.client.anomalies.list_alerts(limit=MAX_ROWS)
    open_alerts = Counter(a["priority"] for a in listed["alerts"] if a["state"] != "resolved")
    text = ", ".join(f"{count:,} of {priority}" for priority, count in sorted(open_alerts.items()))
    style = "sh-bad" if open_alerts["P1"] else "sh-warn" if open_alerts else "sh-good"
    return [Matter("Open alerts", text or "none", "/anomalies", style)]


async def _find_runs(page: OpenPage) -> list[Matter]:
    runs = (await page.client.platform.list_runs(limit=MAX_ROWS))["runs"]
    since = datetime.now(UTC) - RECENT
    recent = [run for run in runs if datetime.fromisoformat(run["created"]) >= since]
    matters = []
    for title, chosen in (
        ("Failed jobs", [run for run in recent if run["state"] == "failed"]),
        ("Late jobs", [run for run in recent if run["late"] and not run["finished"]]),
    ):
        counts = Counter(run["job"] for run in chosen)
        for job, count in sorted(counts.items()):
            times = "once" if count == 1 else f"{count:,} times"
            capability = job.partition(".")[0]
            text = f"{job}, {times} in 24 hours"
            matters.append(Matter(title, text, f"/{capability}/jobs", "sh-bad"))
    return matters or [Matter("Jobs", "none failed or late in 24 hours", "/", "sh-good")]


async def _find_events(page: OpenPage, capabilities: list[dict[str, Any]]) -> list[Matter]:
    platform = page.client.platform
    letters = (await platform.dead_letters(limit=MAX_ROWS))["events"]
    rejected = (await platform.rejected_events(limit=1))["counts"]
    dead = Counter(row["group"] for row in letters)
    matters = []
    for capability in capabilities:
        target = f"/{capability['name']}/events"
        for group in capability["streams"]:
            if dead[group]:
                text = f"{group}: {dead[group]:,}"
                matters.append(Matter("Dead letters", text, target, "sh-bad"))
            if count := rejected.get(group, 0):
                text = f"{group}: {count:,} in all"
                matters.append(Matter("Rejected events", text, target, "sh-warn"))
    return matters or [Matter("Events", "none rejected or undeliverable", "/", "sh-good")]


async def _find_experiments(page: OpenPage) -> list[Matter]:
    listed = await page.client.experiments.list_experiments(limit=MAX_ROWS)
    running = sum(e["status"] in ("running", "promoting") for e in listed["experiments"])
    text = f"{running:,} running" if running else "none running"
    return [Matter("Experiments", text, "/experiments", "sh-off")]


async def _find_quotas(page: OpenPage) -> list[Matter]:
    if page.may("admin:platform"):  # whose own tenant has no usage
        return []
    [used] = (await page.client.platform.list_usage())["tenants"]
    return [_describe_quota(quota) for quota in used["quotas"]]


def _describe_quota(quota: dict[str, Any]) -> Matter:
    share = quota["used"] / quota["limit"] if quota["limit"] else 1.0
    name = quota["meter"].replace("_", " ")
    where = "" if quota["capability"] == "*" else f" of {quota['capability']}"
    period = f" this {quota['period']}" if quota["period"] else ""
    text = f"{name}{where}{period}: {quota['used']:,} of {quota['limit']:,}"
    style = "sh-bad" if share >= 1 else "sh-warn" if share >= 0.8 else "sh-good"
    return Matter("Quota", text, "/", style)
