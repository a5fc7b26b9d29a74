"""A capability's events on the console: dead letters and rejections of its streams."""

from typing import Any

from nicegui import ui

from shoal.client.http import AsyncClient

from .frame import draw_empty, draw_pill

MAX_ROWS = 100
"""Events of each kind that are looked at."""


async def draw_events(client: AsyncClient, capability: dict[str, Any]) -> None:
    """Draw the events that the capability's streams could not handle or use."""
    rejections, count, streams = list[dict[str, Any]](), 0, capability["streams"]
    for stream in streams:
        found = await client.platform.rejected_events(group=stream, limit=MAX_ROWS)
        rejections += found["events"]
        count += found["counts"].get(stream, 0)
    dead = (await client.platform.dead_letters(limit=MAX_ROWS))["events"]
    letters = [row for row in dead if row["group"] in streams]
    _draw_rows(f"Rejected: {count:,}", "No event was rejected.", rejections, "reason")
    _draw_rows("Dead letters", "There are no dead letters.", letters, "error")


def _draw_rows(title: str, nothing: str, rows: list[dict[str, Any]], why: str) -> None:
    ui.label(title).classes("sh-h2")
    if not rows:
        draw_empty(nothing)
        return
    with ui.element("section").classes("sh-card w-full"):
        for row in rows:
            event = row["event"]
            with ui.column().classes("w-full").style("gap:2px; padding:8px 0"):
                with ui.row().classes("items-center").style("gap:12px"):
                    draw_pill(event["type"], "sh-bad")
                    ui.label(f"{event['source']} · {event['id']}").classes("sh-mono")
                    ui.label(event["time"]).classes("sh-muted")
                ui.label(row[why]).style("overflow-wrap:anywhere")
