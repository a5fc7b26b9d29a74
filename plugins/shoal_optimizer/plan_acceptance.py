"""Accepting a plan: its teams are committed in one step, all of them or none."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from shoal import Conflict, Event, Invalid, TenantContext

from .assignments import SOURCE, check_assignments
from .calendar import Calendar
from .inputs import PlanningInputs
from .parameters import OptimizerParameters
from .plan_runs import read_fields, show_run
from .records import Person, Task
from .scenarios import Scenario, changed_people, changed_tasks
from .skills import Matcher
from .store import Change, RecordStore, encode, fingerprint
from .tasks import is_writable, requirements_of, with_team
from .team.rules import find_violations

MAX_AGE = timedelta(hours=1)
"""A plan that is not older is judged as of its own moment, so that nobody whom it fills
up to the limit is over it some minutes later."""
MAX_NAMED = 100
"""Refused tasks that an error names."""
EVENT_BATCH = 200


@dataclass(frozen=True)
class StoredPlan:
    """A finished plan, and the records that it is about, as they are stored now.

    Attributes:
        id: The id of the run.
        teams: Task → its team, the most important task first.
        requirements: Task → a digest of what it required when it was planned.
        moment: When the plan was made.
        tasks: Task → raw JSON, of those that still exist.
        people: Person → raw JSON, of those that still exist.
        scenario: What the plan was made under.
    """

    id: str
    teams: Mapping[str, Sequence[str]]
    requirements: Mapping[str, str]
    moment: datetime
    tasks: Mapping[str, bytes]
    people: Mapping[str, bytes]
    scenario: Scenario


async def read_plan(ctx: TenantContext, id: str, only: Collection[str] | None) -> StoredPlan:
    """A finished plan, or a part of it.

    Args:
        ctx: The caller's context.
        id: The id of the run.
        only: The tasks that matter; None for all that have a team.

    Raises:
        NotFound: There is none of this id, or it is another user's.
        Conflict: The run has not ended, or it has no plan.
        Invalid: Some of the tasks have no team in it.
    """
    fields = await read_fields(ctx, id)
    run = await show_run(ctx, id, fields)
    if run["state"] == "running":
        raise Conflict(f"plan {id!r} is still running")
    rows = (run["result"] or {}).get("assignments")
    if rows is None:
        raise Conflict(f"plan {id!r} failed: it has no teams to accept")
    rows = sorted(rows, key=lambda row: (-row["priority"], row["deadline"], row["task"]))
    teams = {row["task"]: row["team"] for row in rows if only is None or row["task"] in only}
    if unknown := sorted(set(only or ()) - set(teams)):
        raise Invalid.at("tasks", f"{', '.join(unknown)}: without a team in this plan")
    store = RecordStore(ctx)
    scenario = Scenario.model_validate_json(fields.get("scenario", b"{}"))
    people = sorted({*scenario.concerned, *(id for team in teams.values() for id in team)})
    ids = list(dict.fromkeys([*teams, *(change.task for change in scenario.tasks)]))
    tasks = await store.get_many("tasks", ids)
    members = await store.get_many("people", people)
    moment = datetime.fromisoformat(fields["now"].decode())
    requirements = orjson.loads(fields["requirements"])
    return StoredPlan(
        id, teams, requirements, moment, _found(ids, tasks), _found(people, members), scenario
    )


def _found(ids: Iterable[str], raws: Sequence[bytes | None]) -> dict[str, bytes]:
    return {id: raw for id, raw in zip(ids, raws, strict=True) if raw is not None}


async def accept_plan(
    ctx: TenantContext, inputs: PlanningInputs, plan: StoredPlan, partial: bool
) -> dict[str, Any]:
    """Commit the teams of a plan; accepting again changes nothing.

    What its scenario changes of people and tasks is stored in the same step.

    Args:
        ctx: The caller's context.
        inputs: The tenant's records.
        plan: The plan.
        partial: Whether to accept the other tasks where some are refused.

    Returns:
        `plan`, `accepted` (ids of tasks) and `refused` with `task` and `why`.

    Raises:
        Conflict: A task is refused and `partial` is false, or a record has changed in
            the meantime. Nothing is accepted then.
    """
    now = datetime.now(UTC)
    at = plan.moment if now - plan.moment <= MAX_AGE else now
    people: dict[str, bytes | None] = dict(plan.people)
    people |= changed_people(plan.scenario, plan.people)
    tasks = {**plan.tasks, **changed_tasks(plan.scenario, plan.tasks)}
    if people != plan.people or tasks != plan.tasks:
        ctx.require("write:tenant")
    members = {id: Person.model_validate_json(raw) for id, raw in people.items() if raw}
    planned = {id: Task.model_validate_json(tasks[id]) for id in plan.teams if id in tasks}
    accepted, refused = await asyncio.to_thread(
        _judge, ctx, inputs, plan, members, planned, at, now
    )
    if refused and not partial:
        named = refused[:MAX_NAMED]
        raise Conflict(
            f"nothing was accepted, because {len(refused)} of {len(plan.teams)} tasks no longer "
            "fit; send partial: true to accept the others, or plan again",
            errors=[{"location": row["task"], "message": row["why"]} for row in named],
        )
    tasks |= {id: encode(task) for id, task in accepted.items()}
    new = [task for id, task in accepted.items() if tasks[id] != plan.tasks[id]]
    involved = {person for task in new for person in task.team}
    involved |= {id for id, raw in people.items() if raw != plan.people.get(id)}
    involved |= _teams_of(plan.tasks[id] for id, raw in tasks.items() if raw != plan.tasks[id])
    if involved:
        changes = [
            Change("people", id, plan.people.get(id), people.get(id)) for id in sorted(involved)
        ] + [Change("tasks", id, plan.tasks[id], raw) for id, raw in tasks.items()]
        await RecordStore(ctx).compare_and_set(changes, inputs.assigned_key)
        await check_assignments(ctx, involved)
        events = [_event(ctx, plan.id, task) for task in new]
        for first in range(0, len(events), EVENT_BATCH):
            await ctx.stores.events.append(events[first : first + EVENT_BATCH])
    return {"plan": plan.id, "accepted": list(accepted), "refused": refused}


def _teams_of(tasks: Iterable[bytes]) -> set[str]:
    return {person for raw in tasks for person in orjson.loads(raw)["team"]}


def _judge(
    ctx: TenantContext,
    inputs: PlanningInputs,
    plan: StoredPlan,
    people: Mapping[str, Person],
    tasks: Mapping[str, Task],
    at: datetime,
    now: datetime,
) -> tuple[dict[str, Task], list[dict[str, str]]]:
    """The tasks with their teams, and those that are refused, with the reason.

    Each is judged with the work of those before it, so what is accepted fits together.
    """
    parameters = ctx.parameters(OptimizerParameters)
    matcher = Matcher(parameters.similarity, inputs.vectors)
    work: dict[str, list[Task]] = defaultdict(list)
    for raw in inputs.assigned:
        committed = Task.model_validate_json(raw)
        for id in committed.team:
            work[id].append(committed)
    accepted: dict[str, Task] = {}
    refused: list[dict[str, str]] = []
    for id, team in plan.teams.items():
        task = tasks.get(id)
        if task is not None and task.state == "assigned" and set(task.team) == set(team):
            accepted[id] = task
            continue
        why = _outdated(ctx, plan, id, task, now)
        if not why and (gone := [person for person in team if person not in people]):
            why = f"{', '.join(gone)}: deleted since"
        if task is not None and not why:
            theirs = {other.id: other for person in team for other in work[person]}
            calendar = Calendar([people[person] for person in team], list(theirs.values()), at)
            found = find_violations(task, calendar, matcher, parameters)
            why = "; ".join(violation.message for violation in found)
        if task is None or why:
            refused.append({"task": id, "why": why})
            continue
        accepted[id] = with_team(task, team, at)
        for person in team:
            work[person].append(accepted[id])
    return accepted, refused


def _outdated(
    ctx: TenantContext, plan: StoredPlan, id: str, task: Task | None, now: datetime
) -> str:
    """Why the plan of a task no longer holds, whatever the others do; else empty."""
    if task is None:
        return "it was deleted"
    if not is_writable(ctx, task.board_id):
        return "you may not change it: it is the whole tenant's, which needs write:tenant"
    if task.state != "open":
        return f"it is already {task.state}"
    stored = Task.model_validate_json(plan.tasks[id])
    if plan.requirements.get(id) != requirements_of(stored):
        return "it has changed since the plan was made"
    if now >= task.deadline:
        return "its deadline has passed"
    return ""


def _event(ctx: TenantContext, plan: str, task: Task) -> Event:
    type = "optimizer.accepted"
    data = {"plan": plan, "task": task.id, "team": task.team, "by": ctx.user}
    id = fingerprint(encode({"plan": plan, "task": task.id}))
    return Event(id=id, source=SOURCE, type=type, subject=task.id, data=data)
