"""A capability's jobs on the console: their schedules and latest runs."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import orjson
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.errors import Invalid, ShoalError
from shoal.contract.json_text import load_json

from .dialogs import ask
from .elements import draw_empty, draw_heading, draw_pill
from .open_pages import OpenPage

STYLES = {
    "succeeded": "sh-good",
    "failed": "sh-bad",
    "cancelled": "sh-off",
    "running": "sh-warn",
    "queued": "sh-off",
}
UNFINISHED = ("queued", "running")
MAX_RUNS = 8
"""Runs that are shown of each job."""
REFRESH_SECONDS = 2.0
_PYTHON = re.compile(r"(?:[A-Z]\w*: )?(?P<message>.+?)(?: \(\S+\.py:\d+\))?")
"""An error of a job: its class, its message, and where it was raised."""


async def draw_jobs(page: OpenPage, capability: dict[str, Any]) -> None:
    """Draw a card for each job. While one is running, the runs are refreshed."""
    client, editable = page.client, page.may("write:tenant")
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
                page.notify_error(error)
                return
            ui.notify(f"{job['name']} is queued.", type="positive")
        await refresh()

    async def cancel(run: dict[str, Any]) -> None:
        with anchor:
            question = f"Cancel this run of {run['job']}?"
            if not await ask(question, "What it has done so far stays.", "Cancel the run"):
                return
            try:
                await client.platform.cancel_run(id=run["id"])
            except ShoalError as error:
                page.notify_error(error)
        await refresh()

    async def refresh() -> None:
        nonlocal found
        found = await _list_runs(client)
        cards.refresh()
        timer.active = has_active_run()

    def has_active_run() -> bool:
        return any(run["state"] in UNFINISHED and run["job"] in capability["jobs"] for run in found)

    @ui.refreshable
    def cards() -> None:
        for job in jobs:
            runs = [run for run in found if run["job"] == job["name"]][:MAX_RUNS]
            _draw_job(page, job, runs, start if editable else None, cancel)

    cards()
    # Holds dialogs and messages: unlike the cards, it is not redrawn on a refresh.
    anchor = ui.element()
    timer = ui.timer(REFRESH_SECONDS, refresh, active=has_active_run())
    page.on_change(refresh)


async def _list_runs(client: AsyncClient) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = (await client.platform.list_runs(limit=200))["runs"]
    return runs


def _draw_job(
    page: OpenPage,
    job: dict[str, Any],
    runs: list[dict[str, Any]],
    start: Callable[[dict[str, Any]], Awaitable[None]] | None,
    cancel: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    card = ui.element("section").classes("sh-card w-full")
    with card.style("display:flex; flex-direction:column"):
        with ui.row().classes("items-center w-full").style("gap:4px 12px"):
            with ui.column().style("gap:0; flex:1 1 240px; min-width:0"):
                draw_heading(job["name"])
                ui.label(job["summary"]).classes("sh-muted")
            ui.label(describe_schedule(job)).classes("sh-mono sh-muted")
            if start is not None:
                text = "Run now" if job["cron"] else "Run…"
                button = ui.button(text, on_click=partial(start, job))
                button.props("outline dense no-wrap").style("padding:2px 12px")
        if not runs:
            ui.label("No runs yet.").classes("sh-muted").style("font-size:14px")
        for run in runs:
            _draw_run(page, run, cancel)


def _draw_run(
    page: OpenPage, run: dict[str, Any], cancel: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    row = ui.row().classes("items-center w-full")
    row.style("gap:4px 12px; font-size:14px; border-top:1px solid var(--sh-line); padding-top:10px")
    done, total = run["progress"]["done"], run["progress"]["total"]
    with row:
        draw_pill(run["state"], STYLES.get(run["state"], "sh-off"))
        if run["late"]:
            draw_pill("late", "sh-warn")
        if run["tenant"] is None:
            draw_pill("for all tenants")
        ui.label(page.format_time(run["created"])).classes("sh-muted")
        ui.label(describe_duration(run)).classes("sh-muted")
        if run["state"] == "running" and total:
            bar = ui.linear_progress(value=min(1.0, done / total), show_value=False)
            bar.style("width:180px").props(f'rounded aria-label="Progress of {run["job"]}"')
            ui.label(f"{done:,g} of {total:,g}").classes("sh-muted").style("white-space:nowrap")
        text = describe_failure(run["error"]) or describe_result(run["result"])
        text = text or run["progress"]["message"]
        ui.label(text).classes("sh-muted").style("min-width:0; overflow-wrap:anywhere")
        may_cancel = page.may("write:tenant") and run["tenant"] == page.tenant
        if run["state"] in UNFINISHED and (may_cancel or page.may("admin:platform")):
            button = ui.button("Cancel", on_click=partial(cancel, run)).props("flat dense")
            button.props(f'aria-label="Cancel run of {run["job"]}"')


def describe_failure(error: str | None) -> str:
    """What an error says, without its Python class and the line that raised it."""
    lines = (error or "").strip().splitlines()
    found = _PYTHON.fullmatch(lines[-1].strip()) if lines else None
    return found["message"] if found else ""


def describe_result(result: dict[str, Any] | None) -> str:
    """A job's result in words: "points 1,200, tenants: 2"."""
    return ", ".join(
        f"{name.replace('_', ' ')}{_describe_value(value)}"
        for name, value in (result or {}).items()
    )


def _describe_value(value: Any) -> str:
    if isinstance(value, dict | list):
        return f": {len(value):,}"
    if isinstance(value, bool) or value is None:
        return {True: ": yes", False: ": no", None: ": none"}[value]
    if isinstance(value, int | float):
        return f" {value:,}" if isinstance(value, int) else f" {value:,.4g}"
    return f" {value}"


def describe_duration(run: dict[str, Any]) -> str:
    """How long a run took: "took 3 min"; empty while it has not finished."""
    if not (run["started"] and run["finished"]):
        return ""
    started, finished = (datetime.fromisoformat(run[key]) for key in ("started", "finished"))
    seconds = (finished - started).total_seconds()
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"took {seconds / size:.3g} {unit}"
    return f"took {seconds:.2g} s"


async def ask_for_arguments(name: str) -> dict[str, Any] | None:
    """Ask for the arguments of a job, as a JSON object; None when it was cancelled."""
    with ui.dialog() as dialog, ui.card().style("width:min(460px, 90vw); gap:12px"):
        draw_heading(f"Run {name}")
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
