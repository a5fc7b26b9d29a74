"""The console's page: a task with its candidates and recommended team, the three
decisions, and a plan as a timeline.
"""

from datetime import datetime, timedelta
from typing import Any

from shoal import PageContext, ShoalError

COLORS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#ff9da6", "#9d755d")


async def draw(page: PageContext) -> None:
    """Two tabs: one task, and the plan."""
    from nicegui import ui

    with ui.tabs().classes("w-full") as tabs:
        one, many = ui.tab("Task"), ui.tab("Plan")
    with ui.tab_panels(tabs, value=one).classes("w-full"):
        with ui.tab_panel(one):
            await TaskPanel(ui, page).draw()
        with ui.tab_panel(many):
            PlanPanel(ui, page).draw()


class TaskPanel:
    """Choose a task; see who could do it, the team that is recommended and why; decide."""

    def __init__(self, ui: Any, page: PageContext) -> None:
        self.ui, self.api = ui, page.client.optimizer
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
        self.choice = ui.select(
            {task["id"]: task["title"] or task["id"] for task in tasks},
            label="Task",
            value=tasks[0]["id"],
        )
        self.choice.classes("w-96").mark("optimizer-task").on_value_change(self.show)
        self.about = ui.label().classes("sh-muted")
        self.team = ui.column().classes("w-full").mark("optimizer-team")
        self.table = ui.column().classes("w-full").mark("optimizer-candidates")
        self.tasks = {task["id"]: task for task in tasks}
        await self.show()

    async def show(self) -> None:
        task = self.tasks[self.choice.value]
        needs = ", ".join(
            f"{r['skill']} ≥ {r['level']:g}" + (f" × {r['people']}" if r["people"] > 1 else "")
            for r in task["skills"]
        )
        self.about.text = f"{task['estimated_hours']:g} hours until {_day(task['deadline'])}, priority {task['priority']}. Needs {needs or 'no skill'}."
        try:
            table = await self.api.candidates(id=task["id"], limit=50)
            self.candidates(table["candidates"])
            self.recommendation = await self.api.recommend(id=task["id"])
        except ShoalError as error:
            self.ui.notify(str(error), type="negative")
            return
        self.recommended()

    def candidates(self, rows: list[dict[str, Any]]) -> None:
        ui = self.ui
        self.table.clear()
        columns = [
            {"name": name, "label": label, "field": name, "align": "left" if name in ("name", "skills") else "right"}
            for name, label in (
                ("name", "Candidate"), ("score", "Score"), ("skill_match", "Skill match"), ("availability", "1 − workload"),
                ("past_success", "Past success"), ("skills", "Skills"),
            )
        ]  # fmt: skip
        shown = [
            {
                **{
                    part: f"{row[part]:.2f}"
                    for part in ("score", "skill_match", "availability", "past_success")
                },
                "name": row["name"],
                "skills": ", ".join(_skill(skill) for skill in row["skills"] if skill["found"]),
            }
            for row in rows
        ]
        with self.table:
            ui.label("Candidates").classes("text-lg")
            ui.table(columns=columns, rows=shown, row_key="name", pagination=10).classes(
                "w-full"
            ).props("dense flat")

    def recommended(self) -> None:
        ui, answer = self.ui, self.recommendation
        self.team.clear()
        with self.team:
            if not answer["team"]:
                self.impossible(answer)
                return
            proof = (
                "proved the best"
                if answer["status"] == "optimal"
                else f"within {100 * (answer['gap'] or 0):.1f} % of the best"
            )
            ui.label(f"Recommended team, {proof}").classes("text-lg")
            with ui.row().classes("w-full"):
                for member in answer["members"]:
                    with ui.card().classes("w-64"):
                        ui.label(f"{member['name']} · {member['role']}").classes("font-bold")
                        for reason in member["reasons"]:
                            ui.label(reason).classes("text-sm")
            for sentence in answer["sentences"]:
                ui.label(sentence).mark("optimizer-sentence")
            with ui.row():
                ui.button("Accept", on_click=self.accept).mark("optimizer-accept")
                ui.button("Suggest alternative", on_click=self.alternative).props("outline").mark(
                    "optimizer-alternative"
                )
                ui.button("Assign manually", on_click=self.manually).props("outline").mark(
                    "optimizer-assign"
                )

    def impossible(self, answer: dict[str, Any]) -> None:
        ui = self.ui
        ui.label(answer.get("message") or "No team can do this task.").classes("text-lg").mark(
            "optimizer-impossible"
        )
        if answer.get("conflict"):
            ui.label(answer["conflict"]["message"]).mark("optimizer-conflict")
        if answer.get("relaxations"):
            ui.label("What would make it possible, the easiest first:").classes("sh-muted")
            for way in answer["relaxations"]:
                ui.label(f"• {way['message']}")
        ui.button("Assign manually", on_click=self.manually).props("outline").mark(
            "optimizer-assign"
        )

    async def accept(self) -> None:
        try:
            self.recommendation = await self.api.accept(id=self.recommendation["id"])
        except ShoalError as error:
            self.ui.notify(str(error), type="negative")
            return
        self.decided("Accepted: the team's workloads include the task now.")

    async def alternative(self) -> None:
        try:
            answer = await self.api.alternative(id=self.recommendation["id"])
        except ShoalError as error:
            self.ui.notify(str(error), type="negative")
            return
        if not answer["team"]:
            self.ui.notify(answer["message"])
            return
        self.recommendation = answer
        self.recommended()

    async def manually(self) -> None:
        ui = self.ui
        people = {
            p["id"]: p["name"] or p["id"]
            for p in (await self.api.list_people(limit=1000))["people"]
        }
        with ui.dialog() as dialog, ui.card().classes("w-96"):
            ui.label("Assign manually").classes("text-lg")
            chosen = ui.select(
                people, multiple=True, value=list(self.recommendation["team"]), label="People"
            ).props("use-chips")
            chosen.classes("w-full").mark("optimizer-people")
            broken = ui.column().mark("optimizer-violations")
            override = ui.checkbox("Assign all the same").mark("optimizer-override")
            override.visible = False
            reason = ui.input("Why").classes("w-full")
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
                    broken.clear()
                    with broken:
                        for fault in error.errors or [{"message": str(error)}]:
                            ui.label(fault["message"]).classes("text-negative")
                    override.visible = True
                    return
                dialog.close()
                self.decided("Assigned.")

            with ui.row():
                ui.button("Assign", on_click=assign).mark("optimizer-assign-go")
                ui.button("Cancel", on_click=dialog.close).props("flat")
        dialog.open()

    def decided(self, text: str) -> None:
        self.team.clear()
        with self.team:
            self.ui.label(text).classes("text-lg").mark("optimizer-decided")
            self.ui.label(", ".join(self.recommendation["team"]))


class PlanPanel:
    """Plan all open tasks; see them as a timeline, one row a person, with what was left
    out and why.
    """

    def __init__(self, ui: Any, page: PageContext) -> None:
        self.ui, self.api = ui, page.client.optimizer

    def draw(self) -> None:
        ui = self.ui
        with ui.row().classes("items-center"):
            self.limit = ui.number("Seconds", value=10, min=1, max=120).classes("w-24")
            ui.button("Plan all open tasks", on_click=self.plan).mark("optimizer-plan")
            self.stop = ui.button("Stop with the best so far", on_click=self.cancel).props(
                "outline"
            )
            self.stop.visible = False
        self.state = ui.label().classes("sh-muted").mark("optimizer-plan-state")
        self.result = ui.column().classes("w-full").mark("optimizer-timeline")
        self.timer = ui.timer(0.5, self.follow, active=False)
        self.id = ""

    async def plan(self) -> None:
        try:
            started = await self.api.plan(
                body={"wait": False, "time_limit": float(self.limit.value or 10)}
            )
        except ShoalError as error:
            self.ui.notify(str(error), type="negative")
            return
        self.id, self.stop.visible, self.state.text = started["id"], True, "Planning …"
        self.result.clear()
        self.timer.activate()

    async def cancel(self) -> None:
        await self.api.cancel_plan(id=self.id)

    async def follow(self) -> None:
        plan = await self.api.get_plan(id=self.id)
        if plan["state"] == "running":
            if progress := plan["progress"]:
                gap = "" if progress["gap"] is None else f", gap {100 * progress['gap']:.1f} %"
                self.state.text = f"Planning: the best so far is {progress['objective']:.2f}{gap}"
            return
        self.timer.deactivate()
        self.stop.visible = False
        result = plan["result"]
        if plan["state"] == "failed" or "assignments" not in result:
            self.state.text = f"It failed: {result.get('error', '')}"
            return
        gap = "" if result["gap"] is None else f", gap {100 * result['gap']:.2f} %"
        self.state.text = f"{len(result['assignments'])} of {result['tasks']} tasks have a team; {result['status']}{gap}"
        with self.result:
            self.timeline(result)
            for row in result["left_out"]:
                self.ui.label(f"{row['title']} is left out: {row['why']}").classes("text-sm")

    def timeline(self, result: dict[str, Any]) -> None:
        """One row a person: their tasks as bars from start to end, and how many of
        their spare hours the plan takes.
        """
        ui = self.ui
        slots = [(task, slot) for task in result["assignments"] for slot in task["slots"]]
        if not slots:
            return
        start = min(datetime.fromisoformat(slot["start"]) for _, slot in slots)
        end = max(datetime.fromisoformat(slot["end"]) for _, slot in slots)
        length = max((end - start) / timedelta(hours=1), 1.0)

        def percent(moment: str) -> float:
            return 100 * ((datetime.fromisoformat(moment) - start) / timedelta(hours=1)) / length

        ui.label(f"{_day(start.isoformat())} – {_day(end.isoformat())}").classes("sh-muted")
        color = {
            task["task"]: COLORS[n % len(COLORS)] for n, task in enumerate(result["assignments"])
        }
        for row in result["workloads"]:
            with ui.row().classes("w-full no-wrap items-center"):
                ui.label(row["name"]).classes("w-40 truncate")
                with ui.element("div").classes("relative grow h-6 bg-gray-100"):
                    for task, slot in slots:
                        if slot["person"] == row["person"]:
                            left, right = percent(slot["start"]), percent(slot["end"])
                            bar = (
                                ui.element("div")
                                .classes("absolute h-6 rounded opacity-80")
                                .mark("optimizer-bar")
                            )
                            bar.style(
                                f"left:{left:.2f}%;width:{max(right - left, 0.5):.2f}%;background:{color[task['task']]}"
                            )
                            with bar:
                                ui.tooltip(
                                    f"{task['title']}: {task['hours_each']:g} h until {_day(task['deadline'])}"
                                )
                ui.label(f"{row['hours']:.0f} of {row['free_hours']:.0f} h").classes(
                    "w-28 text-right text-sm"
                )


def _skill(skill: dict[str, Any]) -> str:
    how = (
        ""
        if skill["how"] == "exact"
        else f" ({skill['found']}, {skill['how']} {skill['similarity']:.2f})"
    )
    return f"{skill['required']} {skill['level']:g}{how}"


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%b}"
