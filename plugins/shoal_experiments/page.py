"""The console's page: the list of experiments, one of them, or the form for another.

The address says which: `?id=` and `?new=yes`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui

from shoal import PageContext, ShoalError

from .draft_form import DraftForm
from .experiment_view import STATUS_STYLES, ExperimentView
from .results_view import pill


async def draw(page: PageContext) -> None:
    """Draw the page."""
    page.require("read:tenant")
    if id := page.query.get("id"):
        view = ExperimentView(page, id)
        await view.draw()
        page.on_change(view.draw)
    elif page.query.get("new") and page.may("write:tenant"):
        await _draw_form(page)
    else:
        await _draw_list(page)


async def _draw_list(page: PageContext) -> None:
    with ui.row().classes("w-full items-center"):
        page.heading("Experiments").classes("grow")
        if page.may("write:tenant"):
            button = ui.button("New experiment", icon="add")
            button.on_click(lambda: ui.navigate.to("/experiments?new=yes"))
            button.props("unelevated").mark("new")
    column = ui.column().classes("w-full")
    drawn: Any = None

    async def draw_cards() -> None:
        nonlocal drawn
        found = await page.client.experiments.list_experiments(limit=1000)
        if found == drawn:  # drawn again, a link would lose the focus
            return
        drawn = found
        column.clear()
        with column:
            if not found["experiments"]:
                ui.label("No experiments yet.").classes("sh-empty")
            for experiment in reversed(found["experiments"]):
                _draw_card(page, experiment)

    await draw_cards()
    page.on_change(draw_cards)


def _draw_card(page: PageContext, experiment: dict[str, Any]) -> None:
    id = experiment["id"]
    with (
        ui.element("article").classes("sh-card w-full").mark("experiment"),
        ui.row().classes("w-full items-center"),
    ):
        with ui.column().classes("grow min-w-0 gap-0").style("flex:1 1 200px"):
            with page.heading("", 3), ui.link(target=f"/experiments?id={quote(id)}") as link:
                ui.label(id).style("overflow-wrap:anywhere")
            link.classes("sh-link")
            ui.label(experiment["hypothesis"]).classes("sh-muted")
        pill(experiment["capability"] or "product")
        pill(" · ".join(experiment["variants"]))
        pill(experiment["status"], STATUS_STYLES.get(experiment["status"], ""))


async def _draw_form(page: PageContext) -> None:
    capabilities = (await page.client.platform.list_capabilities())["capabilities"]
    schemas = {c["name"]: c["parameters"] for c in capabilities if c.get("parameters")}

    async def save(id: str, design: dict[str, Any]) -> None:
        try:
            await page.client.experiments.draft(id=id, body=design)
        except ShoalError as error:
            page.notify_error(error)
            return
        ui.navigate.to(f"/experiments?id={quote(id)}")

    with ui.row().classes("w-full items-center"):
        ui.link("All experiments", "/experiments").classes("sh-link")
        page.heading("New experiment")
    DraftForm(page, schemas, save)
