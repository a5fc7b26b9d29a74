"""Tasks as they are stored: who may see them, and what replacing one entails."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from shoal import Conflict, NotFound, TenantContext

from .assignments import check_assignments
from .records import Task
from .store import Change, RecordStore, encode, fingerprint

MAX_ATTEMPTS = 5
"""How often a replacement is tried when other requests change the same records."""

REQUIREMENTS = {"type", "complexity", "estimated_hours", "start", "deadline", "skills", "team_size"}
"""The fields of a task that decide which team is the best."""


def requirements_of(task: Task) -> str:
    """A digest of what a task requires, which a new title does not change."""
    return fingerprint(encode(task.model_dump(mode="json", include=REQUIREMENTS)))


def with_team(task: Task, team: Sequence[str], at: datetime, waived: Sequence[str] = ()) -> Task:
    """A task that a team got at a moment."""
    update = {"state": "assigned", "team": tuple(team), "assigned_at": at, "broken": ()}
    return task.model_copy(update=update | {"waived": tuple(waived)})


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
    """A task as it was sent, with the stored state, team and time of assignment.

    Each of the three can be overridden by sending it.
    """
    fields = ("state", "team", "assigned_at")
    update = {
        name: getattr(stored, name)
        for name in fields
        if stored is not None and name not in task.model_fields_set
    }
    update |= {name: getattr(stored, name) if stored else () for name in ("broken", "waived")}
    merged = task.model_copy(update=update)
    if merged.state == "assigned" and merged.assigned_at is None:
        return merged.model_copy(update={"assigned_at": datetime.now(UTC)})
    if merged.state == "open":
        team = () if "team" in update else merged.team
        open_ = {"team": team, "assigned_at": None, "broken": (), "waived": ()}
        return merged.model_copy(update=open_)
    return merged


async def replace_tasks(
    ctx: TenantContext, ids: Sequence[str], make: Callable[[str, Task | None], Task | None]
) -> dict[str, Task | None]:
    """Replace tasks.

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
        made: dict[str, Task | None] = {}
        changes: list[Change] = []
        for id, raw in zip(ids, await store.get_many("tasks", ids), strict=True):
            old = None if raw is None else Task.model_validate_json(raw)
            if old is not None and not is_writable(ctx, old.board_id):
                continue
            stored[id], new = old, make(id, old)
            made[id] = new
            changes.append(Change("tasks", id, raw, None if new is None else encode(new)))
        changes = [change for change in changes if change.before != change.after]
        try:
            if changes:
                await store.compare_and_set(changes)
            teams = [task for id in stored for task in (stored[id], made[id])]
            involved = {
                id for task in teams if task and task.state == "assigned" for id in task.team
            }
            if involved:
                await check_assignments(ctx, involved)
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
        lambda _, stored: stored and stored.model_copy(update={"state": "done", "broken": ()}),
    )
