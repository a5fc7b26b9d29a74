"""A capability's jobs: their schedules, their latest runs with progress, and a button
to run one now.
"""

from datetime import UTC, datetime
from typing import Any

import orjson
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.errors import ShoalError

from .frame import empty, pill

STYLES = {
    "succeeded": "sh-good",
    "failed": "sh-bad",
    "cancelled": "sh-off",
    "running": "sh-warn",
    "queued": "sh-off",
}
MOST = 8


async def jobs(client: AsyncClient, capability: dict[str, Any], *, editable: bool) -> None:
    """A card for each job. The runs are asked for again every two seconds while one
    goes on.
    """
    every = {job["name"]: job for job in (await client.platform.list_jobs())["jobs"]}
    mine = [every[name] for name in capability["jobs"] if name in every]
    if not mine:
        empty("This capability has no jobs.")
        return
    found = (await client.platform.list_runs(limit=200))["runs"]

    async def start(job: dict[str, Any]) -> None:
        with holder:  # the button may be gone by the time of an answer
            arguments = {} if job["cron"] else await asked(job["name"])
            if arguments is None:
                return
            try:
                await client.platform.run_job(name=job["name"], body={"arguments": arguments})
            except ShoalError as error:
                ui.notify(error.detail, type="negative")
                return
            ui.notify(f"{job['name']} is queued.", type="positive")
        await again()

    async def again() -> None:
        nonlocal found
        found = (await client.platform.list_runs(limit=200))["runs"]
        cards.refresh()
        timer.active = going()

    def going() -> bool:
        return any(
            run["state"] in ("queued", "running") and run["job"] in capability["jobs"]
            for run in found
        )

    @ui.refreshable
    def cards() -> None:
        for job in mine:
            with (
                ui.element("section")
                .classes("sh-card w-full")
                .style("display:flex; flex-direction:column")
            ):
                with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
                    with ui.column().style("gap:0"):
                        ui.label(job["name"]).classes("sh-h2")
                        ui.label(job["summary"]).classes("sh-muted")
                    ui.space()
                    ui.label(schedule(job)).classes("sh-mono sh-muted")
                    if editable:
                        ui.button(
                            "Run now" if job["cron"] else "Run…",
                            on_click=lambda job=job: start(job),
                        ).props("outline dense no-wrap").style("padding:2px 12px")
                runs([run for run in found if run["job"] == job["name"]][:MOST])

    cards()
    holder = (
        ui.element()
    )  # for dialogs and messages: it outlives the cards, which are drawn anew while a run goes on
    timer = ui.timer(2.0, again, active=going())


async def asked(name: str) -> dict[str, Any] | None:
    """The arguments for a job that has no schedule, as a JSON object; None when the
    person thought better of it.
    """
    with ui.dialog() as dialog, ui.card().style("width:min(460px, 90vw); gap:12px"):
        ui.label(f"Run {name}").classes("sh-h2")
        text = (
            ui.textarea(label="Arguments (a JSON object)", value="{}")
            .props("outlined autogrow input-class=sh-mono")
            .classes("w-full")
        )
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat")
            ui.button("Run", on_click=lambda: dialog.submit(text.value)).props("unelevated")
    answer = await dialog
    dialog.delete()
    if answer is None:
        return None
    try:
        arguments = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        ui.notify(f"The arguments are not JSON: {error}", type="negative")
        return None
    if not isinstance(arguments, dict):
        ui.notify('The arguments must be a JSON object, such as {"days": 7}.', type="negative")
        return None
    return arguments


def schedule(job: dict[str, Any]) -> str:
    return f"{job['cron']} · {job['timezone']}" if job["cron"] else "by hand"


def runs(found: list[dict[str, Any]]) -> None:
    """The latest runs, newest first."""
    if not found:
        ui.label("It has not run yet.").classes("sh-muted").style("font-size:14px")
    for run in found:
        with (
            ui.row()
            .classes("items-center no-wrap w-full")
            .style(
                "gap:12px; font-size:14px; border-top:1px solid var(--sh-line); padding-top:10px"
            )
        ):
            pill(run["state"], STYLES.get(run["state"], "sh-off"))
            ui.label(ago(run["created"])).classes("sh-muted").style("white-space:nowrap")
            progress = run["progress"]
            done, total = progress["done"], progress["total"]
            if run["state"] == "running" and total:
                ui.linear_progress(value=done / total, show_value=False).style("width:180px").props(
                    "rounded"
                )
                ui.label(f"{done:g} of {total:g}").classes("sh-muted").style("white-space:nowrap")
            text = (
                run["error"]
                or ", ".join(f"{k} {v}" for k, v in (run["result"] or {}).items())
                or progress["message"]
            )
            ui.label(text).classes("sh-muted ellipsis").style("min-width:0")


def ago(time: str) -> str:
    """A time in RFC 3339 as people say it: 3 min ago."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {word} ago"
    return "just now"
