"""A capability's jobs on the console: their schedules and latest runs."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.errors import Invalid, ShoalError
from shoal.contract.json_text import load_json

from .frame import draw_empty, draw_pill

STYLES = {
    "succeeded": "sh-good",
    "failed": "sh-bad",
    "cancelled": "sh-off",
    "running": "sh-warn",
    "queued": "sh-off",
}
MAX_RUNS = 8
"""Runs that are shown of each job."""
REFRESH_SECONDS = 2.0


async def draw_jobs(client: AsyncClient, capability: dict[str, Any], *, editable: bool) -> None:
    """Draw a card for each job. While one is running, the runs are refreshed."""
    listed = {job["name"]: job for job in (await client.platform.list_jobs())["jobs"]}
    jobs = [listed[name] for name in capability["jobs"] if name in listed]
    if not jobs:
        draw_empty("This capability has no jobs.")
        return
    found = await _list_runs(client)

    async def start(job: dict[str, Any]) -> None:
        with anchor:  # the button may be gone when the answer arrives
            arguments = {} if job["cron"] else await ask_for_arguments(job["name"])
            if arguments is None:
                return
            try:
                await client.platform.run_job(name=job["name"], body={"arguments": arguments})
            except ShoalError as error:
                ui.notify(error.detail, type="negative")
                return
            ui.notify(f"{job['name']} is queued.", type="positive")
        await refresh()

    async def refresh() -> None:
        nonlocal found
        found = await _list_runs(client)
        cards.refresh()
        timer.active = has_active_run()

    def has_active_run() -> bool:
        return any(
            run["state"] in ("queued", "running") and run["job"] in capability["jobs"]
            for run in found
        )

    @ui.refreshable
    def cards() -> None:
        for job in jobs:
            runs = [run for run in found if run["job"] == job["name"]][:MAX_RUNS]
            _draw_job(job, runs, start if editable else None)

    cards()
    # Holds dialogs and messages: unlike the cards, it is not redrawn on a refresh.
    anchor = ui.element()
    timer = ui.timer(REFRESH_SECONDS, refresh, active=has_active_run())


async def _list_runs(client: AsyncClient) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = (await client.platform.list_runs(limit=200))["runs"]
    return runs


def _draw_job(
    job: dict[str, Any],
    runs: list[dict[str, Any]],
    start: Callable[[dict[str, Any]], Awaitable[None]] | None,
) -> None:
    card = ui.element("section").classes("sh-card w-full")
    with card.style("display:flex; flex-direction:column"):
        with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
            with ui.column().style("gap:0"):
                ui.label(job["name"]).classes("sh-h2")
                ui.label(job["summary"]).classes("sh-muted")
            ui.space()
            ui.label(describe_schedule(job)).classes("sh-mono sh-muted")
            if start is not None:
                text = "Run now" if job["cron"] else "Run…"
                button = ui.button(text, on_click=partial(start, job))
                button.props("outline dense no-wrap").style("padding:2px 12px")
        if not runs:
            ui.label("No runs yet.").classes("sh-muted").style("font-size:14px")
        for run in runs:
            _draw_run(run)


def _draw_run(run: dict[str, Any]) -> None:
    row = ui.row().classes("items-center no-wrap w-full")
    row.style("gap:12px; font-size:14px; border-top:1px solid var(--sh-line); padding-top:10px")
    done, total = run["progress"]["done"], run["progress"]["total"]
    result = ", ".join(f"{name} {value}" for name, value in (run["result"] or {}).items())
    with row:
        draw_pill(run["state"], STYLES.get(run["state"], "sh-off"))
        ui.label(describe_age(run["created"])).classes("sh-muted").style("white-space:nowrap")
        if run["state"] == "running" and total:
            bar = ui.linear_progress(value=done / total, show_value=False)
            bar.style("width:180px").props("rounded")
            ui.label(f"{done:g} of {total:g}").classes("sh-muted").style("white-space:nowrap")
        text = run["error"] or result or run["progress"]["message"]
        ui.label(text).classes("sh-muted ellipsis").style("min-width:0")


async def ask_for_arguments(name: str) -> dict[str, Any] | None:
    """Ask for the arguments of a job, as a JSON object; None when it was cancelled."""
    with ui.dialog() as dialog, ui.card().style("width:min(460px, 90vw); gap:12px"):
        ui.label(f"Run {name}").classes("sh-h2")
        text = ui.textarea(label="Arguments (a JSON object)", value="{}").classes("w-full")
        text.props("outlined autogrow input-class=sh-mono")
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat")
            ui.button("Run", on_click=lambda: dialog.submit(text.value)).props("unelevated")
    answer = await dialog
    dialog.delete()
    if answer is None:
        return None
    try:
        arguments = load_json(answer.encode())
    except (orjson.JSONDecodeError, Invalid) as error:
        ui.notify(f"The arguments are not JSON: {error}", type="negative")
        return None
    if not isinstance(arguments, dict):
        ui.notify('The arguments must be a JSON object, such as {"days": 7}.', type="negative")
        return None
    return arguments


def describe_schedule(job: dict[str, Any]) -> str:
    """A job's cron expression and time zone, or that it has none."""
    return f"{job['cron']} · {job['timezone']}" if job["cron"] else "on demand"


def describe_age(time: str) -> str:
    """How long ago a time (RFC 3339) was, in words: "3 min ago"."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
