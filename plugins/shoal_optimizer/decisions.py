"""Recommendations and what becomes of them: accepted, replaced by an alternative, or
overruled by hand.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

from shoal import Conflict, Event, Invalid, NotFound, TenantContext

from .hours import capacity_hours
from .intake import SOURCE
from .parameters import OptimizerParameters
from .records import Person, Task
from .rules import violations
from .skills import Matcher
from .solver import World
from .store import Change, Store, fingerprint, packed

MOST_ALTERNATIVES = 200
DEMANDS = {"type", "estimated_hours", "start", "deadline", "skills", "team_size"}
"""What of a task decides which team is the best: a new title changes nothing."""


async def task_of(ctx: TenantContext, id: str) -> tuple[Task, bytes]:
    """The task and its raw record, or NotFound when there is none that the caller may
    see.
    """
    raw = await Store(ctx).get("tasks", id)
    if raw is not None:
        task = Task.model_validate_json(raw)
        if task.board_id is None or ctx.may_see(task.board_id):
            return task, raw
    raise NotFound(f"there is no task {id!r}")


async def recommendation_of(ctx: TenantContext, id: str) -> tuple[dict[str, Any], bytes]:
    raw = await Store(ctx).get("recommendations", id)
    if raw is None:
        raise NotFound(f"there is no recommendation {id!r}")
    record = orjson.loads(raw)
    await task_of(ctx, record["task"])
    return record, raw


async def recommended(
    ctx: TenantContext, solver: Any, world: World, task: Task, raw: bytes
) -> dict[str, Any]:
    """A first recommendation for the task, kept for the decision."""
    if task.state != "open":
        raise Conflict(f"task {task.id!r} is {task.state} already")
    answer = await solver.recommend(world, raw)
    record = {
        "id": uuid4().hex,
        "task": task.id,
        "state": "proposed",
        "created": datetime.now(UTC).isoformat(),
        **answer,
    }
    record["root"] = record["id"]
    record |= {"people_then": _people_then(world, record["team"]), "task_then": _task_then(task)}
    record["shown"] = [record["team"]] if record["team"] else []
    await Store(ctx).put("recommendations", {record["id"]: packed(record)})
    await _tell(ctx, "optimizer.recommended", record, {})
    return record


def _people_then(world: World, team: Sequence[str]) -> dict[str, str]:
    """What each of the team was when the team was chosen."""
    wanted = set(team)
    return {
        id: fingerprint(raw)
        for id, raw in zip(world.ids, world.people, strict=True)
        if id in wanted
    }


def _task_then(task: Task) -> str:
    """What a task demanded of its team when the team was chosen."""
    return fingerprint(packed(task.model_dump(mode="json", include=DEMANDS)))


async def accepted(ctx: TenantContext, id: str) -> dict[str, Any]:
    """Commit the team: their workloads rise at once. Accepting again changes nothing;
    Conflict when anyone, or what the task demands, changed since.
    """
    record, raw = await recommendation_of(ctx, id)
    if record["state"] == "accepted":
        await _tell(ctx, "optimizer.accepted", record, {})
        return record
    if record["state"] != "proposed":
        raise Conflict(f"this recommendation was {record['state']}")
    if not record["team"]:
        raise Conflict("there is no team to accept")
    task, task_raw = await task_of(ctx, record["task"])
    if record.get("task_then") not in (
        None,
        _task_then(task),
    ):  # None: kept before tasks were compared
        detail = (
            f"task {task.id!r} changed since this was recommended; ask for a new recommendation"
        )
        raise Conflict(detail, errors=[{"location": "task", "message": "changed since"}])
    people = await Store(ctx).many("people", record["team"])
    changed = [
        person for person, held in zip(record["team"], people, strict=True)
        if held is None or fingerprint(held) != record["people_then"].get(person)
    ]  # fmt: skip
    if changed:
        detail = (
            f"{', '.join(changed)} changed since this was recommended; ask for a new recommendation"
        )
        raise Conflict(
            detail,
            errors=[
                {"location": f"team.{person}", "message": "changed since"} for person in changed
            ],
        )
    record = await _commit(
        ctx, record, raw, task, task_raw, record["team"], people, {"state": "accepted"}
    )
    await _tell(ctx, "optimizer.accepted", record, {})
    return record


async def alternative(ctx: TenantContext, solver: Any, world: World, id: str) -> dict[str, Any]:
    """The best team that none of this chain of recommendations has shown; `team` is
    empty when there is no other.
    """
    record, raw = await recommendation_of(ctx, id)
    root, root_raw = (
        (record, raw)
        if record["root"] == record["id"]
        else await recommendation_of(ctx, record["root"])
    )
    task, task_raw = await task_of(ctx, record["task"])
    if task.state != "open":
        raise Conflict(f"task {task.id!r} is {task.state} already")
    shown = root["shown"]
    if len(shown) >= MOST_ALTERNATIVES:
        return {
            **_bare(record),
            "status": "none",
            "team": [],
            "message": f"{MOST_ALTERNATIVES} teams were shown; there may be others",
        }
    answer = await solver.recommend(world, task_raw, shown)
    if not answer["team"]:
        proved = answer["status"] == "infeasible"
        message = (
            "there is no other team that keeps the rules"
            if proved
            else "no other team was found in time"
        )
        return {
            **_bare(record),
            "status": "none" if proved else "unknown",
            "team": [],
            "message": message,
        }
    fresh = {
        "id": uuid4().hex,
        "task": task.id,
        "state": "proposed",
        "created": datetime.now(UTC).isoformat(),
        **answer,
    }
    fresh |= {
        "root": root["id"],
        "people_then": _people_then(world, answer["team"]),
        "task_then": _task_then(task),
        "number": len(shown) + 1,
    }
    changes = [
        Change("recommendations", fresh["id"], None, packed(fresh)),
        Change(
            "recommendations",
            root["id"],
            root_raw,
            packed({**root, "shown": [*shown, answer["team"]]}),
        ),
    ]
    await Store(ctx).swap(changes)
    await _tell(ctx, "optimizer.alternative", fresh, {"instead_of": record["id"]})
    return fresh


def _bare(record: dict[str, Any]) -> dict[str, Any]:
    return {"id": record["id"], "task": record["task"], "root": record["root"]}


async def assigned(
    ctx: TenantContext, world: World, id: str, team: Sequence[str], override: bool, reason: str
) -> dict[str, Any]:
    """Assign this team instead. What it violates is refused as Invalid, unless
    overridden: then it is on record.
    """
    record, raw = await recommendation_of(ctx, id)
    if record["state"] == "assigned" and record["team"] == list(team):
        await _tell(ctx, "optimizer.assigned", record, {})
        return record
    if record["state"] != "proposed":
        raise Conflict(f"this recommendation was {record['state']}")
    task, task_raw = await task_of(ctx, record["task"])
    held = await Store(ctx).many("people", list(team))
    if unknown := [person for person, found in zip(team, held, strict=True) if found is None]:
        raise Invalid(
            f"there is no {', '.join(unknown)}",
            errors=[
                {"location": f"people.{list(team).index(person)}", "message": "no such person"}
                for person in unknown
            ],
        )
    people = [Person.model_validate_json(found) for found in held if found is not None]
    parameters = ctx.parameters(OptimizerParameters)
    matcher = Matcher(parameters.similarity, world.vectors)
    broken = [
        violation.__dict__ for violation in violations(task, people, matcher, parameters, world.now)
    ]
    if broken and not override:
        raise Invalid(
            "; ".join(violation["message"] for violation in broken)
            + ". Send override: true to assign them all the same.",
            errors=[
                {"location": f"{violation['rule']}.{violation['subject']}", **violation}
                for violation in broken
            ],
        )
    change = {
        "state": "assigned",
        "team": list(team),
        "violations": broken,
        "override": bool(broken),
        "reason": reason,
    }
    record = await _commit(ctx, record, raw, task, task_raw, team, held, change)
    await _tell(
        ctx,
        "optimizer.assigned",
        record,
        {"violations": broken, "override": bool(broken), "reason": reason},
    )
    return record


async def _commit(
    ctx: TenantContext, record: dict[str, Any], raw: bytes, task: Task, task_raw: bytes, team: Sequence[str],
    held: Sequence[bytes | None], change: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Raise the team's workloads, close the task and the recommendation: all at once,
    or Conflict.
    """
    if task.state != "open":
        raise Conflict(f"task {task.id!r} is {task.state} already, to {', '.join(task.team)}")
    now = datetime.now(UTC)
    committed: dict[str, float] = {}
    changes = []
    start, end = task.window(now)
    for id, before in zip(team, held, strict=True):
        if before is None:
            raise Conflict(f"{id!r} is gone")
        person = Person.model_validate_json(before)
        hours = capacity_hours(person, start, end) if end > start else 0.0
        added = 100 * task.estimated_hours / len(team) / hours if hours > 0 else 100.0
        after = min(100.0, person.workload + added)
        committed[id] = round(after - person.workload, 6)
        changes.append(
            Change(
                "people",
                id,
                before,
                packed(person.model_copy(update={"workload": round(after, 6)})),
            )
        )
    done = task.model_copy(
        update={"state": "assigned", "team": tuple(team), "committed": committed}
    )
    record = {
        **record,
        **change,
        "decided": now.isoformat(),
        "by": ctx.user,
        "committed": committed,
    }
    changes.append(Change("tasks", task.id, task_raw, packed(done)))
    changes.append(Change("recommendations", record["id"], raw, packed(record)))
    await Store(ctx).swap(changes)
    return record


async def _tell(
    ctx: TenantContext, type: str, record: dict[str, Any], more: dict[str, Any]
) -> None:
    data = {
        "recommendation": record["id"],
        "task": record["task"],
        "team": record["team"],
        "by": ctx.user,
        **more,
    }
    await ctx.stores.events.append(
        [
            Event(
                id=f"{record['id']}:{type}",
                source=SOURCE,
                type=type,
                subject=record["task"],
                data=data,
            )
        ]
    )
