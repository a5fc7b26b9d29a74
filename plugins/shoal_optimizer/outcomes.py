"""Outcomes: what follows from a finished task."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from shoal import Event, TenantContext, off_loop

from .assignments import SOURCE
from .records import Outcome, Task
from .store import RecordStore, encode, fingerprint
from .tasks import finish_tasks, is_visible, is_writable

EVENT_BATCH = 200


def with_id(outcome: Outcome) -> Outcome:
    """An outcome with an id.

    Without one of its own it is a digest of what identifies it, so that the same
    outcome in another offset, or as an event, replaces it.
    """
    if outcome.id:
        return outcome
    return outcome.model_copy(update={"id": fingerprint(encode({"of": outcome.identity}))})


async def hidden_outcomes(ctx: TenantContext, outcomes: Mapping[str, Outcome]) -> set[str]:
    """The ids of outcomes that the caller may not store.

    Those are of a task that they may not change, or would replace one that is. An
    outcome without a stored task is the whole tenant's.
    """
    if ctx.boards is None and ctx.may("write:tenant"):
        return set()
    store = RecordStore(ctx)
    tasks_of = {id: {outcome.task} for id, outcome in outcomes.items()}
    for id, raw in zip(tasks_of, await store.get_many("outcomes", list(tasks_of)), strict=True):
        if raw is not None:
            tasks_of[id].add(Outcome.model_validate_json(raw).task)
    ids = sorted({id for ids in tasks_of.values() for id in ids if id})
    boards = {
        id: Task.model_validate_json(raw).board_id
        for id, raw in zip(ids, await store.get_many("tasks", ids), strict=True)
        if raw is not None
    }
    return {
        id
        for id, tasks in tasks_of.items()
        if not all(is_writable(ctx, boards.get(task or "")) for task in tasks)
    }


async def visible_outcomes(
    ctx: TenantContext, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Those outcomes that the caller may see: of a task that they see.

    An outcome without a stored task is the whole tenant's.
    """
    if ctx.boards is None and ctx.may("read:tenant"):
        return list(rows)
    ids = sorted({row["task"] for row in rows})
    boards = {
        id: orjson.loads(raw)["board_id"]
        for id, raw in zip(ids, await RecordStore(ctx).get_many("tasks", ids), strict=True)
        if raw is not None
    }
    return [row for row in rows if is_visible(ctx, boards.get(row["task"]))]


async def store_outcomes(ctx: TenantContext, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Store outcomes, finish their tasks and append an event for everyone involved.

    Returns:
        The outcomes as they are stored.
    """
    outcomes = await _with_types(ctx, outcomes)
    ctx.usage.require("events", len(outcomes))
    await RecordStore(ctx).put("outcomes", await off_loop(_encoded, outcomes))
    await finish_tasks(ctx, list(dict.fromkeys(o.task for o in outcomes if o.task)))
    involved = [(outcome, person) for outcome in outcomes for person in outcome.people]
    for at in range(0, len(involved), EVENT_BATCH):
        events = [_event(*each) for each in involved[at : at + EVENT_BATCH]]
        await ctx.stores.events.append(events)
    ctx.usage.add("events", len(outcomes))
    return outcomes


async def _with_types(ctx: TenantContext, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes; those without a type get that of their task."""
    ids = sorted({o.task for o in outcomes if o.task and "type" not in o.model_fields_set})
    types = {
        id: Task.model_validate_json(raw).type
        for id, raw in zip(ids, await RecordStore(ctx).get_many("tasks", ids), strict=True)
        if raw is not None
    }
    return [
        outcome
        if "type" in outcome.model_fields_set
        else outcome.model_copy(update={"type": types.get(outcome.task, outcome.type)})
        for outcome in outcomes
    ]


def _encoded(outcomes: Sequence[Outcome]) -> dict[str, bytes]:
    return {outcome.id: encode(outcome) for outcome in outcomes}


def _event(outcome: Outcome, person: str) -> Event:
    """An event from which features of a person's success can be computed."""
    return Event(
        id=fingerprint(encode({"outcome": outcome.id, "person": person})),
        source=SOURCE,
        type="optimizer.outcome",
        time=outcome.finished_at,
        subject=person,
        data={
            "task": outcome.task,
            "type": outcome.type,
            "success": outcome.success,
            "quality": outcome.quality,
            "days_early": outcome.days_early,
        },
    )
