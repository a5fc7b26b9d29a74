"""One task on the console's page: candidates, recommended team, decision."""

from typing import Any
from urllib.parse import urlencode

from shoal import PageContext, ShoalError

PARTS = {
    "score": "Score",
    "skill_match": "Skill match",
    "availability": "Availability",
    "past_success": "Past success",
}


class TaskPanel:
    """Shows a task that is chosen, and takes the decision on its recommendation."""

    def __init__(self, ui: Any, page: PageContext) -> None:
        self.ui, self.page, self.api = ui, page, page.client.optimizer
        self.may_decide = page.may("write:boards")
        self.recommendation: dict[str, Any] = {}

    async def draw(self) -> None:
        ui = self.ui
        try:
            found = (await self.api.list_tasks(limit=1000))["tasks"]
        except ShoalError as error:
            ui.label(str(error)).classes("sh-empty")
            return
        tasks = [task for task in found if task["state"] == "open"]
        if not tasks:
            ui.label("There are no open tasks yet.").classes("sh-empty").mark("optimizer-no-tasks")
            return
        self.tasks = {task["id"]: task for task in tasks}
        chosen = self.page.query.get("task", tasks[0]["id"])
        if chosen not in self.tasks:
            ui.label("There is no such open task.").classes("sh-empty")
            chosen = tasks[0]["id"]
        self.choice = ui.select(
            {id: task["title"] or id for id, task in self.tasks.items()},
            label="Task",
            value=chosen,
        )
        self.choice.classes("w-96 max-w-full").mark("optimizer-task").on_value_change(self.open)
        self.about = ui.label().classes("sh-muted")
        self.team = ui.column().classes("w-full").mark("optimizer-team")
        self.table = ui.column().classes("w-full").mark("optimizer-candidates")
        await self.show()

    def open(self) -> None:
        """Go to the address of the chosen task."""
        self.ui.navigate.to(f"/optimizer?{urlencode({'task': self.choice.value})}")

    async def show(self) -> None:
        """Show the chosen task, its candidates and a new recommendation."""
        task = self.tasks[self.choice.value]
        self.about.text = _describe(task, self.page)
        try:
            table = await self.api.candidates(id=task["id"], limit=50)
            self._show_candidates(table["candidates"])
            if not self.may_decide:
                return
            self.recommendation = await self.api.recommend(id=task["id"])
        except ShoalError as error:
            self.page.notify_error(error)
            return
        self._show_recommendation()

    def _show_candidates(self, rows: list[dict[str, Any]]) -> None:
        ui = self.ui
        headings = {"name": "Candidate", **PARTS, "skills": "Skills"}
        columns = [
            {"name": name, "label": label, "field": name, "align": _alignment(name)}
            for name, label in headings.items()
        ]
        cells = [
            {
                **{part: f"{row[part]:.2f}" for part in PARTS},
                "name": row["name"],
                "skills": ", ".join(_skill(skill) for skill in row["skills"] if skill["found"]),
            }
            for row in rows
        ]
        self.table.clear()
        with self.table:
            self.page.heading("Candidates")
            table = ui.table(columns=columns, rows=cells, row_key="name", pagination=10)
            table.classes("w-full").props("dense flat")

    def _show_recommendation(self) -> None:
        ui, answer = self.ui, self.recommendation
        self.team.clear()
        with self.team:
            if not answer["team"]:
                self._show_conflict(answer)
                return
            gap = 100 * (answer["gap"] or 0)
            proof = "proved optimal" if answer["status"] == "optimal" else f"gap {gap:.1f} %"
            self.page.heading(f"Recommended team, {proof}")
            with ui.row().classes("w-full"):
                for member in answer["members"]:
                    with ui.card().classes("w-64"):
                        ui.label(f"{member['name']} · {member['role']}").classes("font-bold")
                        for reason in member["reasons"]:
                            ui.label(reason).classes("text-sm")
            for sentence in answer["sentences"]:
                ui.label(sentence).mark("optimizer-sentence")
            with ui.row():
                if not self.may_decide:
                    return
                ui.button("Accept", on_click=self.accept).mark("optimizer-accept")
                other = ui.button("Suggest alternative", on_click=self.suggest_alternative)
                other.props("outline").mark("optimizer-alternative")
                self._draw_assign_button()

    def _show_conflict(self, answer: dict[str, Any]) -> None:
        ui = self.ui
        message = ui.label(answer.get("message") or "No team can do this task.")
        message.classes("text-lg").mark("optimizer-impossible")
        if answer.get("conflict"):
            ui.label(answer["conflict"]["message"]).mark("optimizer-conflict")
        if answer.get("relaxations"):
            ui.label("Changes that would allow a team, the easiest first:").classes("sh-muted")
            for way in answer["relaxations"]:
                ui.label(f"• {way['message']}")
        self._draw_assign_button()

    def _draw_assign_button(self) -> None:
        if not (self.may_decide and self.page.may("read:tenant")):
            return
        button = self.ui.button("Assign manually", on_click=self.assign_manually)
        button.props("outline").mark("optimizer-assign")

    async def accept(self) -> None:
        try:
            self.recommendation = await self.api.accept(id=self.recommendation["id"])
        except ShoalError as error:
            self.page.notify_error(error)
            return
        self._show_decision("Accepted. The team's workloads now include the task.")

    async def suggest_alternative(self) -> None:
        try:
            answer = await self.api.alternative(id=self.recommendation["id"])
        except ShoalError as error:
            self.page.notify_error(error)
            return
        if not answer["team"]:
            self.ui.notify(answer["message"])
            return
        self.recommendation = answer
        self._show_recommendation()

    async def assign_manually(self) -> None:
        """Open the dialog in which people are chosen."""
        ui = self.ui
        people = (await self.api.list_people(limit=1000))["people"]
        names = {person["id"]: person["name"] or person["id"] for person in people}
        with ui.dialog() as dialog, ui.card().classes("w-96"):
            self.page.heading("Assign manually")
            team = list(self.recommendation["team"])
            chosen = ui.select(names, multiple=True, value=team, label="People")
            chosen.props("use-chips").classes("w-full").mark("optimizer-people")
            violations = ui.column().mark("optimizer-violations")
            override = ui.checkbox("Assign anyway").mark("optimizer-override")
            override.visible = False
            reason = ui.input("Reason").classes("w-full")
            reason.bind_visibility_from(override)

            async def assign() -> None:
                body = {
                    "people": list(chosen.value),
                    "override": bool(override.value),
                    "reason": reason.value or "",
                }
                try:
                    self.recommendation = await self.api.assign(
                        id=self.recommendation["id"], body=body
                    )
                except ShoalError as error:
                    violations.clear()
                    with violations:
                        for fault in error.errors or [{"message": str(error)}]:
                            ui.label(fault["message"]).classes("text-negative")
                    override.visible = True
                    return
                dialog.close()
                self._show_decision("Assigned.")

            with ui.row():
                ui.button("Assign", on_click=assign).mark("optimizer-assign-go")
                ui.button("Cancel", on_click=dialog.close).props("flat")
        dialog.open()

    def _show_decision(self, text: str) -> None:
        self.team.clear()
        with self.team:
            self.ui.label(text).classes("text-lg").mark("optimizer-decided")
            self.ui.label(", ".join(self.recommendation["team"]))


def _describe(task: dict[str, Any], page: PageContext) -> str:
    needs = ", ".join(
        f"{need['skill']} ≥ {need['level']:g}"
        + (f" × {need['people']}" if need["people"] > 1 else "")
        for need in task["skills"]
    )
    return (
        f"About {task['estimated_hours']:g} hours of work, "
        f"due {page.format_time(task['deadline'])}, "
        f"priority {task['priority']}. Required: {needs or 'no skill'}."
    )


def _alignment(column: str) -> str:
    return "right" if column in PARTS else "left"


def _skill(skill: dict[str, Any]) -> str:
    text = f"{skill['required']} {skill['level']:g}"
    if skill["how"] == "exact":
        return text
    return f"{text} ({skill['found']}, {skill['how']} {skill['similarity']:.2f})"
