"""The console's page: one task with its recommended team, and a plan of many."""

from shoal import PageContext

from .plan_panel import PlanPanel
from .task_panel import TaskPanel


async def draw(page: PageContext) -> None:
    """Draw the two tabs."""
    from nicegui import ui

    with ui.tabs().classes("w-full") as tabs:
        task, plan = ui.tab("Task"), ui.tab("Plan")
    with ui.tab_panels(tabs, value=task).classes("w-full"):
        with ui.tab_panel(task):
            await TaskPanel(ui, page).draw()
        with ui.tab_panel(plan):
            PlanPanel(ui, page).draw()
