"""A plan of all open tasks on the console's page, as a timeline."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from shoal import PageContext, ShoalError

COLORS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#ff9da6", "#9d755d")
POLL_SECONDS = 0.5
MIN_WIDTH = 0.5
"""Percent of the timeline, so that short tasks can be seen."""


class PlanPanel:
    """Starts a plan, shows its progress, then one row of tasks for each person."""

    def __init__(self, ui: Any, page: PageContext) -> None:
        self.ui, self.page, self.api = ui, page, page.client.optimizer

    async def draw(self) -> None:
        """Draw the form, and the plan that the address names."""
        ui = self.ui
        with ui.row().classes("items-center"):
            if self.page.may("write:boards"):
                self.limit = ui.number("Seconds to plan", value=10, min=1, max=120).classes("w-32")
                ui.button("Plan all open tasks", on_click=self.start).mark("optimizer-plan")
            self.stop = ui.button("Stop with the best so far", on_click=self.cancel)
            self.stop.props("outline")
            self.stop.visible = False
        self.state = ui.label().classes("sh-muted").mark("optimizer-plan-state")
        self.result = ui.column().classes("w-full").mark("optimizer-timeline")
        self.timer = ui.timer(POLL_SECONDS, self.poll, active=False)
        self.id = self.page.query.get("plan", "")
        if self.id:
            self.timer.activate()
            await self.poll()

    async def start(self) -> None:
        body = {"wait": False, "time_limit": float(self.limit.value or 10)}
        try:
            started = await self.api.plan(body=body)
        except ShoalError as error:
            self.page.notify_error(error)
            return
        self.ui.navigate.to(f"/optimizer?{urlencode({'show': 'plan', 'plan': started['id']})}")

    async def cancel(self) -> None:
        await self.api.cancel_plan(id=self.id)

    async def poll(self) -> None:
        """Show the progress, or the result once it is there."""
        try:
            plan = await self.api.get_plan(id=self.id)
        except ShoalError:
            self.timer.deactivate()
            raise
        if plan["state"] == "running":
            self.state.text, self.stop.visible = "Planning …", self.page.may("write:boards")
            if progress := plan["progress"]:
                objective, gap = progress["objective"], _gap(progress["gap"], 1)
                self.state.text = f"Planning: best objective so far {objective:.2f}{gap}"
            return
        self.timer.deactivate()
        self.stop.visible = False
        result = plan["result"]
        if plan["state"] == "failed" or "assignments" not in result:
            self.state.text = f"Planning failed: {result.get('error', '')}"
            return
        self.state.text = (
            f"{len(result['assignments'])} of {result['tasks']} tasks have a team; "
            f"{result['status']}{_gap(result['gap'], 2)}"
        )
        with self.result:
            self._draw_timeline(result)
            for row in result["left_out"]:
                self.ui.label(f"{row['title']} has no team: {row['why']}").classes("text-sm")

    def _draw_timeline(self, result: dict[str, Any]) -> None:
        ui = self.ui
        slots = [(task, slot) for task in result["assignments"] for slot in task["slots"]]
        if not slots:
            return
        start = min(datetime.fromisoformat(slot["start"]) for _, slot in slots)
        end = max(datetime.fromisoformat(slot["end"]) for _, slot in slots)
        ui.label(f"{self.page.format_time(start)} to {self.page.format_time(end)}").classes(
            "sh-muted"
        )
        colors = {
            task["task"]: COLORS[n % len(COLORS)] for n, task in enumerate(result["assignments"])
        }
        for row in result["workloads"]:
            with ui.row().classes("w-full no-wrap items-center"):
                ui.label(row["name"]).classes("w-40 truncate").style("flex:0 1 160px")
                with (
                    ui.element("div")
                    .classes("relative grow h-6")
                    .style("background:var(--sh-sunken); min-width:80px")
                ):
                    for task, slot in slots:
                        if slot["person"] == row["person"]:
                            self._draw_bar(task, slot, colors[task["task"]], start, end)
                hours = ui.label(f"{row['hours']:.0f} of {row['free_hours']:.0f} h")
                hours.classes("w-28 text-right text-sm")

    def _draw_bar(
        self, task: dict[str, Any], slot: dict[str, Any], color: str, start: datetime, end: datetime
    ) -> None:
        """One slot, at its place in the time from start to end."""
        length = max(end - start, timedelta(hours=1))
        left = 100 * (datetime.fromisoformat(slot["start"]) - start) / length
        right = 100 * (datetime.fromisoformat(slot["end"]) - start) / length
        bar = self.ui.element("div").classes("absolute h-6 rounded opacity-80")
        width = max(right - left, MIN_WIDTH)
        bar.style(f"left:{left:.2f}%;width:{width:.2f}%;background:{color}").mark("optimizer-bar")
        due = self.page.format_time(task["deadline"])
        with bar:
            self.ui.tooltip(f"{task['title']}: {task['hours_each']:g} h of work each, due {due}")


def _gap(gap: float | None, digits: int) -> str:
    return "" if gap is None else f", gap {100 * gap:.{digits}f} %"
