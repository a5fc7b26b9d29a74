"""Recommendations and decisions on them: accept, alternative, manual assignment."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from shoal import Conflict, Event, Invalid, NotFound, TenantContext

from .assignments import SOURCE, check_assignments
from .calendar import Calendar
from .inputs import PlanningInputs
from .parameters import OptimizerParameters
from .records import Person, Task
from .skills import Matcher
from .store import Change, RecordStore, encode, fingerprint, new_id
from .tasks import get_task, is_visible, is_writable, requirements_of, with_team
from .team.rules import find_violations

OF_SEARCH = ("trade_offs", "conflict", "relaxations")
"""What a search tells and a team that is chosen by hand does not have."""
BY_HAND = {"status": "unknown", "bound": None, "gap": None}
MAX_ALTERNATIVES = 200
Wishes = Mapping[str, Sequence[str]]
"""`include` and `exclude`: who must, and who must not, be in a team."""
INTERNAL = ("people_fingerprints", "task_fingerprint", "shown")
"""Fields of a stored recommendation that no answer contains."""
LISTED = ("id", "task", "state", "created", "status", "team", "objective", "decided", "by")
READ_AT_ONCE = 200


@dataclass(frozen=True)
class Recommendation:
    """A stored recommendation with its task.

    Attributes:
        record: The recommendation.
        raw: The same as it is stored.
        task: Its task.
        task_raw: The same as it is stored.
    """

    record: dict[str, Any]
    raw: bytes
    task: Task
    task_raw: bytes


async def get_recommendation(ctx: TenantContext, id: str) -> Recommendation:
    """A recommendation.

    Raises:
        NotFound: There is none for a task that the caller may see.
    """
    raw = await RecordStore(ctx).get("recommendations", id)
    if raw is None:
        raise NotFound(f"recommendation {id!r} not found")
    record = orjson.loads(raw)
    return Recommendation(record, raw, *await get_task(ctx, record["task"]))


async def list_recommendations(
    ctx: TenantContext, task: str | None, before: str | None, limit: int
) -> list[dict[str, Any]]:
    """What lists show of recommendations that the caller may see, the latest first.

    Args:
        ctx: The caller's context.
        task: Only those for this task.
        before: Only those made before the one of this id.
        limit: The most rows.
    """
    store = RecordStore(ctx)
    ids = [id for id in await store.ids("recommendations") if before is None or id < before]
    rows: list[dict[str, Any]] = []
    while ids and len(rows) < limit:
        part, ids = ids[-READ_AT_ONCE:][::-1], ids[:-READ_AT_ONCE]
        raws = filter(None, await store.get_many("recommendations", part))
        records = [orjson.loads(raw) for raw in raws]
        records = [record for record in records if task is None or record["task"] == task]
        tasks = sorted({record["task"] for record in records})
        boards = {
            id: orjson.loads(raw)["board_id"]
            for id, raw in zip(tasks, await store.get_many("tasks", tasks), strict=True)
            if raw is not None
        }
        rows += [
            {field: record.get(field) for field in LISTED}
            for record in records
            if record["task"] in boards and is_visible(ctx, boards[record["task"]])
        ]
    return rows[:limit]


def public(record: Mapping[str, Any]) -> dict[str, Any]:
    """A recommendation as answers show it."""
    return {name: value for name, value in record.items() if name not in INTERNAL}


async def recommend(
    ctx: TenantContext,
    solver: Any,
    inputs: PlanningInputs,
    task: Task,
    task_raw: bytes,
    wishes: Wishes,
) -> dict[str, Any]:
    """Recommend a team for a task.

    Args:
        ctx: The caller's context.
        solver: The backend, see `solver.Solver`.
        inputs: The tenant's records.
        task: The task.
        task_raw: The same as it is stored.
        wishes: Who must, and who must not, be in the team.

    Returns:
        The stored recommendation.

    For an assignment that is broken it is a repair: as few people as possible leave or
    join the team.

    Raises:
        Conflict: The task is not open, and its assignment is not broken.
    """
    if not task.broken:
        _check_open(task)
    _check_wishes(wishes, inputs)
    answer = await solver.recommend(inputs, task_raw, (), wishes)
    record = _new_record(task, inputs, {**answer, **wishes})
    if task.broken:
        record["repairs"] = _repairs(task.team, record["team"])
    record |= {"root": record["id"], "shown": [record["team"]] if record["team"] else []}
    await RecordStore(ctx).put("recommendations", {record["id"]: encode(record)})
    await _append_event(ctx, "optimizer.recommended", record)
    return record


def _repairs(before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    return {
        "team": list(before),
        "leave": [id for id in before if id not in after],
        "join": [id for id in after if id not in before],
    }


async def accept(
    ctx: TenantContext, inputs: PlanningInputs, recommendation: Recommendation
) -> dict[str, Any]:
    """Commit the recommended team; accepting again changes nothing.

    Raises:
        Conflict: Someone in the team or the task has changed since, the team now breaks
            a rule, or the recommendation was decided otherwise.
    """
    record = recommendation.record
    if record["state"] != "accepted":
        _check_proposed(record)
        if not record["team"]:
            raise Conflict("this recommendation has no team to accept")
        people = await RecordStore(ctx).get_many("people", record["team"])
        _check_unchanged(recommendation, people)
        members = _parse_people(record["team"], people)
        if violations := team_violations(ctx, inputs, recommendation.task, members):
            raise _outdated(violations)
        change = {"state": "accepted"}
        record = await _commit(ctx, inputs, recommendation, record["team"], people, change)
    await _append_event(ctx, "optimizer.accepted", record)
    return record


async def suggest_alternative(
    ctx: TenantContext,
    solver: Any,
    inputs: PlanningInputs,
    recommendation: Recommendation,
    wishes: Wishes,
    replaced: Sequence[str],
) -> dict[str, Any]:
    """Recommend the best team that was not shown before.

    Args:
        ctx: The caller's context.
        solver: The backend, see `solver.Solver`.
        inputs: The tenant's records.
        recommendation: Any of the task's chain of recommendations.
        wishes: Who must, and who must not, be in the team, beside those that this
            recommendation was made with.
        replaced: Members of its team who must not be in the new one, while all others
            must.

    Returns:
        The stored recommendation; with an empty team when there is no other.

    Raises:
        Conflict: The task is not open.
    """
    record, task = recommendation.record, recommendation.task
    root = recommendation
    if record["root"] != record["id"]:
        root = await get_recommendation(ctx, record["root"])
    if not task.broken:
        _check_open(task)
    shown = root.record["shown"]
    if len(shown) >= MAX_ALTERNATIVES:
        return _no_alternative(
            record, "none", f"{MAX_ALTERNATIVES} teams were shown; there may be others"
        )
    wishes = _combined_wishes(record, wishes, replaced)
    _check_wishes(wishes, inputs)
    answer = await solver.recommend(inputs, recommendation.task_raw, shown, wishes)
    if not answer["team"]:
        if answer["status"] == "infeasible":
            return _no_alternative(record, "none", "no other team satisfies the constraints")
        return _no_alternative(record, "unknown", "no other team was found in time")
    new = _new_record(task, inputs, {**answer, **wishes})
    new |= {"root": root.record["id"], "number": len(shown) + 1}
    if task.broken:
        new["repairs"] = _repairs(task.team, new["team"])
    root_record = {**root.record, "shown": [*shown, answer["team"]]}
    await RecordStore(ctx).compare_and_set(
        [
            Change("recommendations", new["id"], None, encode(new)),
            Change("recommendations", root.record["id"], root.raw, encode(root_record)),
        ]
    )
    await _append_event(ctx, "optimizer.alternative", new, {"instead_of": record["id"]})
    return new


async def assign(
    ctx: TenantContext,
    solver: Any,
    inputs: PlanningInputs,
    recommendation: Recommendation,
    team: Sequence[str],
    override: bool,
    reason: str,
) -> dict[str, Any]:
    """Assign a team that was chosen by hand; doing so again changes nothing.

    Args:
        ctx: The caller's context.
        solver: The backend, see `solver.Solver`.
        inputs: The tenant's records.
        recommendation: The recommendation that it replaces.
        team: The ids of the team.
        override: Whether to assign it in spite of violations, which are then recorded.
        reason: Why, for the record.

    Returns:
        The stored recommendation.

    Raises:
        Invalid: The team violates a rule, or contains an unknown person.
        Conflict: The recommendation or the task was decided otherwise.
    """
    record = recommendation.record
    details: dict[str, Any] = {}
    if record["state"] != "assigned" or set(record["team"]) != set(team):
        _check_proposed(record)
        raws = await RecordStore(ctx).get_many("people", list(team))
        people = _parse_people(team, raws)
        violations = team_violations(ctx, inputs, recommendation.task, people)
        if violations and not override:
            raise _violated(violations)
        details = {"violations": violations, "override": bool(violations), "reason": reason}
        described = await solver.describe(inputs, recommendation.task_raw, list(team))
        change = {**described, **BY_HAND, "state": "assigned", **details}
        left = {name: value for name, value in record.items() if name not in OF_SEARCH}
        chosen = replace(recommendation, record=left)
        record = await _commit(ctx, inputs, chosen, team, raws, change)
    await _append_event(ctx, "optimizer.assigned", record, details)
    return record


def team_violations(
    ctx: TenantContext, inputs: PlanningInputs, task: Task, people: Sequence[Person]
) -> list[dict[str, Any]]:
    """What a team would violate, as answers show it."""
    parameters = ctx.parameters(OptimizerParameters)
    matcher = Matcher(parameters.similarity, inputs.vectors)
    calendar = Calendar(people, inputs.assigned_to({p.id for p in people}), inputs.now)
    return [asdict(violation) for violation in find_violations(task, calendar, matcher, parameters)]


def _combined_wishes(
    record: Mapping[str, Any], wishes: Wishes, replaced: Sequence[str]
) -> dict[str, list[str]]:
    """The latest wish about a person counts."""
    if strangers := [id for id in replaced if id not in record["team"]]:
        raise Invalid.at("replace", f"{', '.join(strangers)}: not in this recommendation's team")
    kept = [id for id in record["team"] if replaced and id not in replaced]
    include, exclude = [*wishes["include"], *kept], [*wishes["exclude"], *replaced]
    return {
        "include": [*include, *(id for id in record["include"] if id not in {*include, *exclude})],
        "exclude": [*exclude, *(id for id in record["exclude"] if id not in {*include, *exclude})],
    }


def _check_wishes(wishes: Wishes, inputs: PlanningInputs) -> None:
    known = set(inputs.ids)
    for field, ids in wishes.items():
        if unknown := [id for id in ids if id not in known]:
            raise Invalid.at(field, f"unknown people: {', '.join(unknown)}")
    if both := sorted(set(wishes["include"]) & set(wishes["exclude"])):
        raise Invalid.at("include", f"{', '.join(both)}: also in exclude")


def _check_open(task: Task) -> None:
    if task.state != "open":
        raise Conflict(f"task {task.id!r} is already {task.state}")


def _check_proposed(record: Mapping[str, Any]) -> None:
    if record["state"] != "proposed":
        raise Conflict(f"this recommendation is already {record['state']}")


def _new_record(task: Task, inputs: PlanningInputs, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A recommendation as it is stored, without its place in a chain."""
    team = set(answer["team"])
    return {
        "id": new_id(),
        "task": task.id,
        "state": "proposed",
        "created": datetime.now(UTC).isoformat(),
        **answer,
        "people_fingerprints": {
            id: fingerprint(raw)
            for id, raw in zip(inputs.ids, inputs.people, strict=True)
            if id in team
        },
        "task_fingerprint": requirements_of(task),
    }


def _no_alternative(record: Mapping[str, Any], status: str, message: str) -> dict[str, Any]:
    kept = {name: record[name] for name in ("id", "task", "root")}
    return {**kept, "status": status, "team": [], "message": message}


def _check_unchanged(recommendation: Recommendation, people: Sequence[bytes | None]) -> None:
    """Raise Conflict when the task's requirements or the team have changed since."""
    record, task = recommendation.record, recommendation.task
    if record["task_fingerprint"] != requirements_of(task):
        raise _changed([task.id], ["task"])
    changed = [
        id
        for id, raw in zip(record["team"], people, strict=True)
        if raw is None or fingerprint(raw) != record["people_fingerprints"].get(id)
    ]
    if changed:
        raise _changed(changed, [f"team.{id}" for id in changed])


def _changed(ids: Sequence[str], locations: Sequence[str]) -> Conflict:
    return Conflict(
        f"changed since this recommendation: {', '.join(ids)}; request a new one",
        errors=[{"location": location, "message": "changed since"} for location in locations],
    )


def _parse_people(ids: Sequence[str], raws: Sequence[bytes | None]) -> list[Person]:
    unknown = [n for n, raw in enumerate(raws) if raw is None]
    if unknown:
        raise Invalid(
            f"unknown people: {', '.join(ids[n] for n in unknown)}",
            errors=[{"location": f"people.{n}", "message": "not found"} for n in unknown],
        )
    return [Person.model_validate_json(raw) for raw in raws if raw is not None]


def _outdated(violations: Sequence[Mapping[str, Any]]) -> Conflict:
    messages, errors = _described(violations)
    return Conflict(
        f"the team no longer fits: {messages}; request a new recommendation", errors=errors
    )


def _violated(violations: Sequence[Mapping[str, Any]]) -> Invalid:
    messages, errors = _described(violations)
    return Invalid(f"{messages}. Send override: true to assign the team anyway.", errors=errors)


def _described(violations: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Violations as one text, and as the errors of a problem."""
    errors = [{"location": f"{v['rule']}.{v['subject']}", **v} for v in violations]
    return "; ".join(v["message"] for v in violations), errors


async def _commit(
    ctx: TenantContext,
    inputs: PlanningInputs,
    recommendation: Recommendation,
    team: Sequence[str],
    people: Sequence[bytes | None],
    change: Mapping[str, Any],
) -> dict[str, Any]:
    """Assign the task, which commits its hours, and close the recommendation.

    Raises:
        Conflict: The task is not open, or a record has changed in the meantime.
        Forbidden: The task is the whole tenant's, and the caller's rights are not.
    """
    task = recommendation.task
    if not is_writable(ctx, task.board_id):
        ctx.require("write:tenant")
    if "repairs" not in recommendation.record:
        _check_open(task)
    elif list(task.team) != recommendation.record["repairs"]["team"]:
        raise Conflict(f"the team of task {task.id!r} has changed; request a new repair")
    now = datetime.now(UTC)
    if now >= task.deadline:
        raise Conflict(f"the deadline of task {task.id!r} has passed: {task.deadline.isoformat()}")
    changes = [Change("people", id, raw, raw) for id, raw in zip(team, people, strict=True)]
    waived = [f"{row['rule']}:{row['subject']}" for row in change.get("violations", ())]
    # As of the moment at which the team was judged, so that it has the same time.
    assigned = with_team(task, team, inputs.now, waived)
    hours = round(task.estimated_hours / len(team), 2)
    decision = {
        "decided": now.isoformat(),
        "by": ctx.user,
        "committed": dict.fromkeys(team, hours),
    }
    record = {**recommendation.record, **change, **decision}
    changes.append(Change("tasks", task.id, recommendation.task_raw, encode(assigned)))
    changes.append(Change("recommendations", record["id"], recommendation.raw, encode(record)))
    await RecordStore(ctx).compare_and_set(changes, inputs.assigned_key)
    await check_assignments(ctx, {*team, *task.team})
    return record


async def _append_event(
    ctx: TenantContext,
    type: str,
    record: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
) -> None:
    data = {
        "recommendation": record["id"],
        "task": record["task"],
        "team": record["team"],
        "by": ctx.user,
        **(details or {}),
    }
    event = Event(
        id=f"{record['id']}:{type}", source=SOURCE, type=type, subject=record["task"], data=data
    )
    await ctx.stores.events.append([event])
