"""Records that arrive as events of other systems."""

from collections.abc import Sequence
from typing import Any

from shoal import Event, TenantContext

from .assignments import SOURCE
from .intake import delete_person, store_records
from .store import Kind
from .tasks import replace_tasks

KIND_OF: dict[str, Kind] = {
    "person.updated": "people",
    "task.updated": "tasks",
    "task.completed": "outcomes",
}


async def apply_events(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Apply changes of people, tasks and outcomes.

    `person.updated` and `task.updated` carry the whole record, `task.completed` an
    outcome. The same events again change nothing. An event that is no valid record is
    rejected.
    """
    for event in events:
        if event.source == SOURCE:
            continue
        data = {} if event.data is None else event.data
        if not isinstance(data, dict):
            ctx.reject(event, "data: must be an object")
            continue
        if event.type == "task.completed":
            data, id = _outcome(event, data)
        else:
            id = data.get("id") or event.subject
        if not isinstance(id, str):
            fault = "missing; it may also be the event's subject" if id is None else "must be text"
            ctx.reject(event, f"data.id: {fault}")
        elif event.type == "person.deleted":
            await delete_person(ctx, id)
        elif event.type == "task.deleted":
            await replace_tasks(ctx, [id], lambda id, stored: None)
        elif event.type in KIND_OF:
            await _store_record(ctx, event, {**data, "id": id} if id else data)


def _outcome(event: Event, data: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """An outcome and its id: its content is one if it has a task, else the event's."""
    if "task" not in data and "task_id" not in data and event.subject:
        data = {**data, "task": event.subject}
    known = data.get("task") or data.get("task_id")
    return data, data.get("id", "" if known else event.id)


async def _store_record(ctx: TenantContext, event: Event, record: dict[str, Any]) -> None:
    kind = KIND_OF[event.type]
    if kind == "outcomes" and not record.get("completed_at"):
        record = {"finished_at": event.time.isoformat(), **record}
    batch = await store_records(ctx, kind, [record])
    if batch.rejected:
        ctx.reject(event, f"data.{batch.rejected[0]}")
