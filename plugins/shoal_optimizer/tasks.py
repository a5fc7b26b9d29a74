"""Tasks as they are stored: who may see them, and what replacing one entails."""

from collections.abc import Callable, Mapping, Sequence

from shoal import Conflict, NotFound, TenantContext

from .records import Person, Task
from .store import Change, RecordStore, encode

MAX_ATTEMPTS = 5
"""How often a replacement is tried when other requests change the same records."""


def is_visible(ctx: TenantContext, board_id: str | None) -> bool:
    """Whether the caller may see a task on this board; None is no board.

    A task without a board is the whole tenant's.
    """
    return ctx.may("read:tenant") if board_id is None else ctx.may_see(board_id)


def is_writable(ctx: TenantContext, board_id: str | None) -> bool:
    """Whether the caller may change a task on this board, as `is_visible`."""
    return ctx.may("write:tenant") if board_id is None else ctx.may_see(board_id)


async def get_task(ctx: TenantContext, id: str) -> tuple[Task, bytes]:
    """A task, parsed and as it is stored.

    Raises:
        NotFound: There is none that the caller may see.
    """
    raw = await RecordStore(ctx).get("tasks", id)
    if raw is not None:
        task = Task.model_validate_json(raw)
        if is_visible(ctx, task.board_id):
            return task, raw
    raise NotFound(f"task {id!r} not found")


def merge_stored(task: Task, stored: Task | None) -> Task:
    """A task as it was sent, with the stored state, team and commitment.

    Each of the three can be overridden by sending it.
    """
    if stored is None:
        return task
    kept = {
        name: getattr(stored, name)
        for name in ("state", "team", "committed")
        if name not in task.model_fields_set
    }
    state = kept.get("state", task.state)
    if state != "assigned" and "committed" in kept:
        kept["committed"] = {}  # Only an assignment commits anybody.
    if state == "open" and "team" in kept:
        kept["team"] = ()
    return task.model_copy(update=kept)


async def replace_tasks(
    ctx: TenantContext, ids: Sequence[str], make: Callable[[str, Task | None], Task | None]
) -> dict[str, Task | None]:
    """Replace tasks, and free the workload that they no longer commit.

    Args:
        ctx: The caller's context.
        ids: The tasks to replace.
        make: Gives the new task from its id and the stored one. None stands for no
            task: the stored one does not exist, or the new one is not to.

    Returns:
        What was stored, by id. Tasks that the caller may not change are left as they
        are and are not in it.

    Raises:
        Conflict: Other requests kept changing the same records.
    """
    store = RecordStore(ctx)
    for attempt in range(MAX_ATTEMPTS):
        stored: dict[str, Task | None] = {}
        changes: list[Change] = []
        freed: dict[str, float] = {}
        for id, raw in zip(ids, await store.get_many("tasks", ids), strict=True):
            old = None if raw is None else Task.model_validate_json(raw)
            if old is not None and not is_writable(ctx, old.board_id):
                continue
            stored[id], new = old, make(id, old)
            changes.append(Change("tasks", id, raw, None if new is None else encode(new)))
            for person, points in _freed_workload(old, new).items():
                freed[person] = freed.get(person, 0.0) + points
        changes += await _reduce_workloads(store, freed)
        changes = [change for change in changes if change.before != change.after]
        try:
            if changes:
                await store.compare_and_set(changes)
            return stored
        except Conflict:
            if attempt == MAX_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def finish_tasks(ctx: TenantContext, ids: Sequence[str]) -> None:
    """Mark tasks as done, which frees their teams; doing so again changes nothing."""
    await replace_tasks(
        ctx,
        ids,
        lambda _, stored: stored and stored.model_copy(update={"state": "done", "committed": {}}),
    )


def _freed_workload(old: Task | None, new: Task | None) -> dict[str, float]:
    """Person → percentage points that are no longer committed."""
    committed = new.committed if new else {}
    return {
        person: points - committed.get(person, 0.0)
        for person, points in (old.committed if old else {}).items()
        if points > committed.get(person, 0.0)
    }


async def _reduce_workloads(store: RecordStore, freed: Mapping[str, float]) -> list[Change]:
    changes = []
    for id, raw in zip(freed, await store.get_many("people", list(freed)), strict=True):
        if raw is not None:
            person = Person.model_validate_json(raw)
            workload = round(max(0.0, person.workload - freed[id]), 6)
            changed = person.model_copy(update={"workload": workload})
            changes.append(Change("people", id, raw, encode(changed)))
    return changes
