"""The console's page: one task with its recommended team, and a plan of many."""

from shoal import PageContext

from .plan_panel import PlanPanel
from .task_panel import TaskPanel


async def draw(page: PageContext) -> None:
    """Draw a task, or with `?show=plan` a plan."""
    from nicegui import ui

    page.require("read:boards")
    shows_plan = page.query.get("show") == "plan"
    with ui.element("nav").classes("sh-tabs").props('aria-label="Task or plan"'):
        for text, target, is_here in (
            ("Task", "/optimizer", not shows_plan),
            ("Plan", "/optimizer?show=plan", shows_plan),
        ):
            link = ui.link(text, target).classes(replace=f"sh-tab{' sh-here' if is_here else ''}")
            if is_here:
                link.props("aria-current=page")
    if shows_plan:
        await PlanPanel(ui, page).draw()
    else:
        await TaskPanel(ui, page).draw()
