"""Runs of the planner, whose state and result are stored in Redis for a week."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from shoal import Conflict, Event, NotFound, ShoalError, TenantContext

from .assignments import SOURCE
from .inputs import PlanningInputs
from .plan.reasons import BUSY
from .plan.terms import Key, totals
from .records import Task
from .scenarios import Scenario, changed_tasks
from .store import RecordStore, encode, new_id
from .tasks import is_visible, requirements_of

LIFETIME = 7 * 86_400
"""Seconds."""
logger = logging.getLogger("shoal.optimizer")


@dataclass(frozen=True)
class PlanRun:
    """A run that has been registered.

    Attributes:
        id: The id of the run.
        inputs: The tenant's records.
        tasks: The tasks to plan, id → raw JSON.
        options: See `plan.report.make_plan`.
    """

    id: str
    inputs: PlanningInputs
    tasks: Mapping[str, bytes]
    options: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        return _key(self.id)


class PlanRuns:
    """Starts runs on the solver, and keeps those in the background alive."""

    def __init__(self, solver: Any) -> None:
        self._solver = solver
        self._running: set[asyncio.Task[Any]] = set()

    async def create(
        self,
        ctx: TenantContext,
        inputs: PlanningInputs,
        tasks: Mapping[str, bytes],
        options: Mapping[str, Any],
        scenario: Scenario | None = None,
    ) -> PlanRun:
        """Register a run as running.

        Args:
            ctx: The caller's context.
            inputs: The tenant's records, as the scenario changes them.
            tasks: The tasks to plan, as they are stored.
            options: See `plan.report.make_plan`.
            scenario: What the plan is to be made under.
        """
        changed = {} if scenario is None else changed_tasks(scenario, tasks)
        run = PlanRun(new_id(), inputs, {**tasks, **changed}, options)
        parsed = await asyncio.to_thread(_parsed, tasks)
        state = {
            "state": "running",
            "created": datetime.now(UTC).isoformat(),
            "now": inputs.now.isoformat(),
            "by": "" if ctx.user is None else ctx.user,
            "boards": orjson.dumps({task.id: task.board_id for task in parsed}),
            "requirements": orjson.dumps({task.id: requirements_of(task) for task in parsed}),
        }
        if scenario is not None:
            state["scenario"] = encode(scenario)
        await ctx.stores.online.hset(run.key, mapping=state)
        await ctx.stores.online.expire(run.key, LIFETIME)
        await _list_run(ctx, run.id)
        return run

    async def solve(self, ctx: TenantContext, run: PlanRun) -> dict[str, Any]:
        """Solve and store the result.

        Returns:
            The plan, see `plan.report.make_plan`, with its `id` and the numbers of
            `tasks` and `people`.
        """
        online, tasks = ctx.stores.online, list(run.tasks.values())
        try:
            answer = await self._solver.plan(run.inputs, tasks, run.options, online, run.key)
        except ShoalError as error:
            result = orjson.dumps({"error": error.detail})
            await online.hset(run.key, mapping={"state": "failed", "result": result})
            raise
        terms = orjson.dumps(answer.pop("terms", []))
        answer = {
            "id": run.id,
            **answer,
            "tasks": len(tasks),
            "people": len(run.inputs.people),
        }
        state = "cancelled" if await online.hget(run.key, "cancel") else "done"
        ended = {"state": state, "result": orjson.dumps(answer), "terms": terms}
        await online.hset(run.key, mapping=ended)
        await ctx.stores.events.append([_planned(answer)])
        return answer

    def solve_in_background(self, ctx: TenantContext, run: PlanRun) -> None:
        """Solve without waiting; a failure is logged."""

        def end(task: asyncio.Task[Any]) -> None:
            self._running.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.warning("plan %s failed: %s", run.id, error)

        task = asyncio.create_task(self.solve(ctx, run))
        self._running.add(task)
        task.add_done_callback(end)


def _parsed(tasks: Mapping[str, bytes]) -> list[Task]:
    return [Task.model_validate_json(raw) for raw in tasks.values()]


async def _list_run(ctx: TenantContext, id: str) -> None:
    """Add a run to the list, and drop from it those whose lifetime has ended."""
    store = RecordStore(ctx)
    oldest = new_id(round(1000 * (time.time() - LIFETIME)))
    for ended in await store.ids("plans"):
        if ended >= oldest:
            break
        await store.delete("plans", ended)
    await store.put("plans", {id: b"1"})


async def read_runs(ctx: TenantContext, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What lists show of those of some runs that the caller may see."""
    found = []
    for id in ids:
        fields = await ctx.stores.online.hmget(_key(id), ["state", "created", "by"])
        if fields[0] is not None and (ctx.may("read:tenant") or _is_own(ctx, fields[2])):
            state, created, by = (field.decode() for field in fields)
            found.append({"id": id, "state": state, "created": created, "by": by or None})
    return found


async def read_fields(ctx: TenantContext, id: str) -> dict[str, bytes]:
    """What is stored of a run.

    Raises:
        NotFound: There is none of this id, or it is another user's.
    """
    stored = await ctx.stores.online.hgetall(_key(id))
    fields = {(k.decode() if isinstance(k, bytes) else k): v for k, v in stored.items()}
    if not (fields and (ctx.may("read:tenant") or _is_own(ctx, fields["by"]))):
        raise _not_found(id)
    return fields


async def read_run(ctx: TenantContext, id: str) -> dict[str, Any]:
    """The state, progress and result of a run.

    Raises:
        NotFound: There is none of this id, or it is another user's.
    """
    return await show_run(ctx, id, await read_fields(ctx, id))


async def show_run(ctx: TenantContext, id: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    """A run as the caller may see it, from what is stored of it."""
    answer: dict[str, Any] = {
        "id": id,
        "state": fields["state"].decode(),
        "created": fields["created"].decode(),
    }
    for part in ("progress", "result"):
        answer[part] = orjson.loads(fields[part]) if part in fields else None
    if answer["result"] is not None:
        hidden = await _hidden_tasks(ctx, fields)
        answer["result"] = _without(answer["result"], hidden)
    return answer


async def read_terms(ctx: TenantContext, id: str) -> dict[Key, float]:
    """The terms of a plan's objective; hidden tasks are not named.

    Raises:
        NotFound: There is no such run, or it is another user's.
        Conflict: It has no plan, or not yet.
    """
    fields = await read_fields(ctx, id)
    if "terms" not in fields:
        raise Conflict(f"plan {id!r} is {fields['state'].decode()}: it has no score")
    return totals(orjson.loads(fields["terms"]), await _hidden_tasks(ctx, fields))


async def _hidden_tasks(ctx: TenantContext, fields: Mapping[str, bytes]) -> set[str]:
    """The tasks of a run that the caller may not see."""
    boards = orjson.loads(fields["boards"])
    moved = await RecordStore(ctx).get_many("tasks", list(boards))
    for task, raw in zip(list(boards), moved, strict=True):
        if raw is not None:
            boards[task] = orjson.loads(raw)["board_id"]
    return {task for task, board in boards.items() if not is_visible(ctx, board)}


def _without(result: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """A plan without the tasks that the reader may not see."""
    if not hidden or "error" in result:
        return result
    shown: dict[str, Any] = {
        part: [row for row in result[part] if row["task"] not in hidden]
        for part in ("assignments", "left_out", "contradiction")
        if part in result
    }
    for row in shown["left_out"]:
        if row["why"].startswith(BUSY):
            row["why"] = BUSY  # It may name a hidden task.
    return {**result, **shown}


async def cancel_run(ctx: TenantContext, id: str) -> str:
    """Ask a running run to end.

    Returns:
        Its state: "cancelling", or the one that it ended with before.

    Raises:
        NotFound: There is none of this id, or it is another user's.
    """
    state, by = await ctx.stores.online.hmget(_key(id), ["state", "by"])
    if state is None or not (ctx.may("write:tenant") or _is_own(ctx, by)):
        raise _not_found(id)
    if state != b"running":
        return str(state.decode())
    await ctx.stores.online.hset(_key(id), mapping={"cancel": "1"})
    return "cancelling"


def _is_own(ctx: TenantContext, by: bytes) -> bool:
    return ctx.user is not None and by == ctx.user.encode()


def _key(id: str) -> tuple[str, ...]:
    return RecordStore.key(f"plan:{id}")


def _not_found(id: str) -> NotFound:
    return NotFound(f"plan {id!r} not found")


def _planned(answer: Mapping[str, Any]) -> Event:
    data = {
        "plan": answer["id"],
        "status": answer["status"],
        "assigned": len(answer["assignments"]),
        "left_out": len(answer["left_out"]),
    }
    return Event(id=f"{answer['id']}:planned", source=SOURCE, type="optimizer.planned", data=data)
