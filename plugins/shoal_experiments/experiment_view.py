"""One experiment on the console's page: its design, results, history and actions."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from shoal import PageContext, ShoalError

from .results_view import draw_results, pill

STATUS_STYLES = {
    "draft": "off",
    "running": "good",
    "promoted": "good",
    "promoting": "good",
    "rolled back": "warn",
}


class ExperimentView:
    """Draws one experiment, again whenever something changed.

    Args:
        page: Whom it is drawn for.
        id: The experiment's.
    """

    def __init__(self, page: PageContext, id: str) -> None:
        self._page, self._api, self._id = page, page.client.experiments, id
        self._may_edit = page.may("write:tenant")
        self._anchor = ui.element()  # of dialogs, which a refresh must not remove
        self._column = ui.column().classes("w-full")
        self._drawn: Any = None

    async def draw(self) -> None:
        """Draw the experiment as it is now, if that differs from what is drawn."""
        document = await self._api.get(id=self._id)
        report = await self._api.results(id=self._id) if document["started_at"] else None
        if (document, report) == self._drawn:
            return
        self._drawn = (document, report)
        self._column.clear()
        with self._column:
            with ui.row().classes("w-full items-center"):
                ui.link("All experiments", "/experiments").classes("sh-link")
                self._page.heading(self._id).classes("grow")
                pill(document["status"], STATUS_STYLES.get(document["status"], ""))
                if self._may_edit:
                    self._draw_actions(document, report)
            ui.label(document["design"]["hypothesis"])
            draw_design(document)
            if report:
                draw_results(self._page, document, report)
            with ui.expansion("History").classes("w-full"):
                for change in document["history"]:
                    time = self._page.format_time(change["at"])
                    ui.label(f"{time} · {change['by']} · {change['what']}").classes(
                        "sh-muted break-all"
                    )

    def _draw_actions(self, document: dict[str, Any], report: dict[str, Any] | None) -> None:
        status = document["status"]

        async def stop() -> None:
            explanation = (
                "No more units are assigned, and it cannot be started again. The analysis "
                "covers what was observed until now."
            )
            with self._anchor:
                sure = await self._page.ask(f"Stop {self._id}?", explanation, "Stop it")
            if sure:
                await self._change(self._api.stop, body={})

        async def roll_back() -> None:
            explanation = "The values from before the promotion are in effect again at once."
            with self._anchor:
                sure = await self._page.ask(f"Roll back {self._id}?", explanation, "Roll back")
            if sure:
                await self._change(self._api.rollback, body={})

        async def promote() -> None:
            with self._anchor:
                body = await ask_for_promotion(self._page, document, report)
            if body is not None:
                await self._change(self._api.promote, body=body)

        async def start() -> None:
            await self._change(self._api.start)

        if status == "draft":
            ui.button("Start", on_click=start).props("unelevated").mark("start")
        if status == "running":
            ui.button("Stop", on_click=stop).props("outline").mark("stop")
        if status in ("running", "stopped"):
            ui.button("Promote…", on_click=promote).props("outline").mark("promote")
        if status in ("promoted", "promoting"):
            ui.button("Roll back", on_click=roll_back).props("outline").mark("rollback")

    async def _change(self, operation: Callable[..., Awaitable[Any]], **arguments: Any) -> None:
        with self._anchor:
            try:
                await operation(id=self._id, **arguments)
            except ShoalError as error:
                self._page.notify_error(error)
        await self.draw()


async def ask_for_promotion(
    page: PageContext, document: dict[str, Any], report: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Ask which variant to promote, how fast, and why where the verdict is against it.

    Returns:
        The body of the request, or None where the reader declines.
    """
    verdict = (report or {}).get("verdict", {})
    winner = verdict.get("winner") if verdict.get("decision") == "ship" else None
    arms = [variant["name"] for variant in document["design"]["variants"]]
    with ui.dialog() as dialog, ui.card().style("width:min(480px, 90vw); gap:12px"):
        dialog.props('aria-label="Promote a variant"')
        page.heading(f"Promote a variant of {document['id']}")
        if document["design"]["capability"]:
            ui.label(
                "Its parameters become your tenant's own values. A ramp raises its share over "
                "some days and is rolled back when a guardrail shows harm."
            )
        else:
            ui.label("All units are given this variant from now on.")
        variant = ui.select(arms, value=winner or arms[-1], label="Variant")
        variant.props("outlined dense").classes("w-full")
        days = ui.number("Days of the ramp; 0 for at once", value=0, min=0)
        days.props("outlined dense").classes("w-full")
        days.set_visibility(bool(document["design"]["capability"]))
        reason = ui.input("Reason to promote it although the verdict does not say so")
        reason.props("outlined dense").classes("w-full")
        reason.bind_visibility_from(variant, "value", lambda value: value != winner)
        with ui.row().classes("w-full justify-end"):
            ui.button("Go back", on_click=lambda: dialog.submit(None)).props("flat")
            ui.button("Promote", on_click=lambda: dialog.submit(True)).props("unelevated")
    chosen = await dialog
    dialog.delete()
    if chosen is None:
        return None
    body: dict[str, Any] = {"variant": variant.value, "days": days.value or 0}
    if variant.value != winner:
        if not (reason.value or "").strip():
            ui.notify(
                f"The verdict does not say to ship {variant.value}: give a reason to promote it.",
                type="negative",
            )
            return None
        body["override"] = reason.value.strip()
    return body


def draw_design(document: dict[str, Any]) -> None:
    """Draw what was registered."""
    design, plan = document["design"], document["plan"]
    primary = design["primary"]
    facts = {
        "Capability": design["capability"] or "none: a product experiment",
        "Unit": design["unit"],
        "Primary metric": f"{primary['name']} ({primary['kind']}, {primary['better']} is better)",
        "Guardrails": ", ".join(g["name"] for g in design["guardrails"]) or "none",
        "Analysis": f"{design['analysis'].replace('_', '-')}, alpha {design['alpha']:g}, "
        f"power {design['power']:g}, {design['correction']}",
        "Registered": f"{plan['per_arm']:,} units per arm, {plan['duration_days']:g} days"
        if plan
        else "not yet",
        "SHA-256": f"{document['hash'][:16]}…" if document["hash"] else "at the start",
    }
    card = ui.element("div").classes("sh-card w-full grid gap-x-6 gap-y-1")
    with card.style("grid-template-columns: fit-content(40%) 1fr"):
        for name, value in facts.items():
            ui.label(name).classes("sh-muted")
            ui.label(value).style("overflow-wrap:anywhere; min-width:0")
        for variant in design["variants"]:
            role = " (control)" if variant["name"] == design["control"] else ""
            parameters = json.dumps(variant["parameters"]) if variant["parameters"] else ""
            ui.label(variant["name"] + role).classes("sh-muted").style("overflow-wrap:anywhere")
            value = ui.label(f"{variant['allocation']:g}% {parameters}").classes("sh-mono")
            value.style("overflow-wrap:anywhere; min-width:0")
