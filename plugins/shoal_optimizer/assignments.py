"""Assignments that a later change breaks: they are marked, and events tell of them."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from shoal import Conflict, Event, TenantContext, off_loop

from .calendar import Calendar
from .parameters import OptimizerParameters
from .records import MAX_BROKEN, Person, Task
from .skills import Matcher
from .store import Change, RecordStore, encode
from .team.rules import find_violations

SOURCE = "shoal/optimizer"
"""Source of the events that the optimizer appends; its stream skips them."""
MAX_ATTEMPTS = 3


async def check_assignments(ctx: TenantContext, people: Collection[str]) -> None:
    """Mark the assignments of some people that break a rule, and unmark the others.

    Each change of a mark is an event `optimizer.broken` or `optimizer.mended`.

    Args:
        ctx: The caller's context.
        people: Those whose records, leave or assignments have changed.
    """
    store = RecordStore(ctx)
    for _ in range(MAX_ATTEMPTS):
        assigned = await store.get_all("assigned")
        tasks = {id: Task.model_validate_json(raw) for id, raw in assigned.items()}
        concerned = [task for task in tasks.values() if not set(task.team).isdisjoint(people)]
        ids = sorted({id for task in concerned for id in task.team})
        raws = await store.get_many("people", ids)
        known = {
            id: Person.model_validate_json(raw)
            for id, raw in zip(ids, raws, strict=True)
            if raw is not None
        }
        parameters = ctx.parameters(OptimizerParameters)
        judged = await off_loop(_judge, concerned, known, list(tasks.values()), parameters)
        marked = {task.id: task.model_copy(update={"broken": broken}) for task, broken in judged}
        marked = {id: task for id, task in marked.items() if task.broken != tasks[id].broken}
        if not marked:
            return
        changes = [Change("tasks", id, assigned[id], encode(task)) for id, task in marked.items()]
        try:
            await store.compare_and_set(changes)
        except Conflict:
            continue  # A record changed meanwhile, which is looked at again.
        await ctx.stores.events.append([_event(task) for task in marked.values()])
        return


async def check_everybody(ctx: TenantContext) -> int:
    """Check every assignment; how many are broken.

    Changed parameters are noticed by this only.
    """
    assigned = await RecordStore(ctx).get_all("assigned")
    tasks = [Task.model_validate_json(raw) for raw in assigned.values()]
    await check_assignments(ctx, {person for task in tasks for person in task.team})
    assigned = await RecordStore(ctx).get_all("assigned")
    return sum(bool(Task.model_validate_json(raw).broken) for raw in assigned.values())


def _judge(
    concerned: Sequence[Task],
    people: dict[str, Person],
    assigned: Sequence[Task],
    parameters: OptimizerParameters,
) -> list[tuple[Task, tuple[str, ...]]]:
    return [(task, broken_rules(task, people, assigned, parameters)) for task in concerned]


def broken_rules(
    task: Task,
    people: dict[str, Person],
    assigned: Sequence[Task],
    parameters: OptimizerParameters,
) -> tuple[str, ...]:
    """What an assignment violates that was not waived, in words.

    It is looked at as of its assignment, so that the passing of time breaks nothing.
    """
    now = datetime.now(UTC)
    if task.deadline <= now:
        return task.broken
    gone = [f"{id} was deleted" for id in task.team if id not in people]
    team = [people[id] for id in task.team if id in people]
    theirs = [other for other in assigned if not set(other.team).isdisjoint(task.team)]
    calendar = Calendar(team, theirs, task.assigned_at or now, only_now=True)
    alone = task.model_copy(
        update={"estimated_hours": task.estimated_hours * len(team) / len(task.team)}
    )
    found = find_violations(alone, calendar, Matcher(parameters.similarity), parameters)
    if gone:  # The rest of the team is judged by its own time only.
        found = [violation for violation in found if violation.rule in ("workload", "availability")]
    if parameters.accept_similar:  # That takes embeddings, which only a solve has.
        found = [violation for violation in found if violation.rule != "skill"]
    broken = [violation.message for violation in found if violation.key not in task.waived]
    return tuple([*gone, *broken][:MAX_BROKEN])


def _event(task: Task) -> Event:
    type = "optimizer.broken" if task.broken else "optimizer.mended"
    data = {"task": task.id, "team": task.team, "broken": task.broken}
    return Event(id=uuid4().hex, source=SOURCE, type=type, subject=task.id, data=data)
