"""The console's page: the list of experiments, and one experiment with its actions."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from shoal import PageContext, ShoalError

from .draft_form import DraftForm
from .results_view import draw_results, pill

STATUS_STYLES = {
    "draft": "off",
    "running": "good",
    "promoted": "good",
    "promoting": "good",
    "rolled back": "warn",
}


async def draw(page: PageContext) -> None:
    """Draw the page."""
    await _Pages(page).show_list()


class _Pages:
    """Shows the list, one experiment, or the form: one at a time, in one column."""

    def __init__(self, page: PageContext) -> None:
        self._page = page
        self._api = page.client.experiments
        self._column = ui.column().classes("w-full")
        self._may_edit = page.may("write:tenant")

    async def _try(self, call: Awaitable[Any]) -> Any:
        """The call's answer, or None after an error, which is shown."""
        try:
            return await call
        except ShoalError as error:
            faults = [f"{e.get('location')}: {e.get('message')}" for e in error.errors]
            message = "; ".join(faults) or str(error)
            ui.notify(message, type="negative", multi_line=True, timeout=8000)
            return None

    def _clear(self) -> ui.column:
        self._column.clear()
        return self._column

    # The list

    async def show_list(self) -> None:
        found = await self._try(self._api.list_experiments(limit=1000))
        experiments = found["experiments"] if found else []
        with self._clear():
            with ui.row().classes("w-full items-center"):
                ui.label("Experiments").classes("sh-h2 grow")
                if self._may_edit:
                    button = ui.button("New experiment", icon="add", on_click=self.show_form)
                    button.props("unelevated").mark("new")
            if not experiments:
                ui.label("No experiments yet.").classes("sh-empty")
            for experiment in reversed(experiments):
                self._draw_card(experiment)

    def _draw_card(self, experiment: dict[str, Any]) -> None:
        async def show() -> None:
            await self.show_experiment(experiment["id"])

        card = ui.element("div").classes("sh-card w-full cursor-pointer")
        card.on("click", show).mark("experiment")
        with card, ui.row().classes("w-full items-center no-wrap"):
            with ui.column().classes("grow min-w-0 gap-0"):
                ui.label(experiment["id"]).classes("sh-h2")
                ui.label(experiment["hypothesis"]).classes("sh-muted")
            pill(experiment["capability"] or "product")
            pill(" · ".join(experiment["variants"]))
            pill(experiment["status"], STATUS_STYLES.get(experiment["status"], ""))

    # One experiment

    async def show_experiment(self, id: str) -> None:
        document = await self._try(self._api.get(id=id))
        if document is None:
            return
        report = await self._try(self._api.results(id=id)) if document["started_at"] else None
        with self._clear():
            with ui.row().classes("w-full items-center"):
                self._draw_back_button()
                ui.label(id).classes("sh-h2 grow")
                pill(document["status"], STATUS_STYLES.get(document["status"], ""))
                if self._may_edit:
                    self._draw_actions(document)
            ui.label(document["design"]["hypothesis"])
            _draw_design(document)
            if report:
                draw_results(document, report)
            with ui.expansion("History").classes("w-full"):
                for change in document["history"]:
                    time = change["at"][:19].replace("T", " ")
                    ui.label(f"{time} · {change['by']} · {change['what']}").classes(
                        "sh-muted break-all"
                    )

    def _draw_back_button(self) -> None:
        button = ui.button("All experiments", icon="arrow_back", on_click=self.show_list)
        button.props("flat dense")

    def _draw_actions(self, document: dict[str, Any]) -> None:
        id, status = document["id"], document["status"]

        def draw_action(
            text: str, mark: str, operation: Callable[..., Awaitable[Any]], **arguments: Any
        ) -> ui.button:
            async def run() -> None:
                await self._try(operation(id=id, **arguments))
                await self.show_experiment(id)

            return ui.button(text, on_click=run).props("outline").mark(mark)

        if status == "draft":
            draw_action("Start", "start", self._api.start).props("unelevated", remove="outline")
        if status == "running":
            draw_action("Stop", "stop", self._api.stop, body={})
        if status in ("running", "stopped"):
            draw_action("Promote the winner", "promote", self._api.promote, body={})
        if status in ("promoted", "promoting"):
            draw_action("Roll back", "rollback", self._api.rollback, body={})

    # The form

    async def show_form(self) -> None:
        known = await self._try(self._page.client.platform.list_capabilities())
        schemas = {
            c["name"]: c["parameters"]
            for c in (known or {"capabilities": []})["capabilities"]
            if c.get("parameters")
        }
        with self._clear():
            with ui.row().classes("w-full items-center"):
                self._draw_back_button()
                ui.label("New experiment").classes("sh-h2")
            DraftForm(schemas, self._save_draft)

    async def _save_draft(self, id: str, design: dict[str, Any]) -> None:
        if await self._try(self._api.draft(id=id, body=design)) is not None:
            await self.show_experiment(id)


def _draw_design(document: dict[str, Any]) -> None:
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
    with card.style("grid-template-columns: max-content 1fr"):
        for name, value in facts.items():
            ui.label(name).classes("sh-muted")
            ui.label(value)
        for variant in design["variants"]:
            role = " (control)" if variant["name"] == design["control"] else ""
            parameters = json.dumps(variant["parameters"]) if variant["parameters"] else ""
            ui.label(variant["name"] + role).classes("sh-muted")
            ui.label(f"{variant['allocation']:g} % {parameters}").classes("sh-mono")
