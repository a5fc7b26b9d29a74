"""A capability's events on the console: dead letters and rejections of its streams."""

from typing import Any

from nicegui import ui

from .elements import draw_empty, draw_heading, draw_pill
from .open_pages import OpenPage

MAX_ROWS = 100
"""Events of each kind that are looked at."""


async def draw_events(page: OpenPage, capability: dict[str, Any]) -> None:
    """Draw the events that the capability's streams could not handle or use."""
    column = ui.column().classes("w-full")

    async def draw() -> None:
        platform, streams = page.client.platform, capability["streams"]
        rejections, count = list[dict[str, Any]](), 0
        for stream in streams:
            found = await platform.rejected_events(group=stream, limit=MAX_ROWS)
            rejections += found["events"]
            count += found["counts"].get(stream, 0)
        dead = (await platform.dead_letters(limit=MAX_ROWS))["events"]
        letters = [row for row in dead if row["group"] in streams]
        column.clear()
        with column:
            nothing = "No event was rejected."
            _draw_rows(page, f"Rejected: {count:,}", nothing, rejections, "reason")
            nothing = "There are no dead letters."
            _draw_rows(page, "Dead letters", nothing, letters, "error")

    await draw()
    page.on_change(draw)


def _draw_rows(
    page: OpenPage, title: str, nothing: str, rows: list[dict[str, Any]], why: str
) -> None:
    draw_heading(title)
    if not rows:
        draw_empty(nothing)
        return
    with ui.element("section").classes("sh-card w-full"):
        for row in rows:
            event = row["event"]
            with ui.column().classes("w-full").style("gap:2px; padding:8px 0"):
                with ui.row().classes("items-center").style("gap:4px 12px"):
                    draw_pill(event["type"], "sh-bad")
                    origin = ui.label(f"{event['source']} · {event['id']}").classes("sh-mono")
                    origin.style("overflow-wrap:anywhere")
                    ui.label(page.format_time(event["time"])).classes("sh-muted")
                ui.label(row[why]).style("overflow-wrap:anywhere")
