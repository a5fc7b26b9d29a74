"""Records that arrive as events of other systems."""

from collections.abc import Sequence
from typing import Any

from shoal import Event, TenantContext

from .intake import store_records
from .outcomes import SOURCE
from .store import Kind, RecordStore
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
    answered by an event `optimizer.rejected`.
    """
    for event in events:
        if event.source == SOURCE:
            continue
        data = event.data if isinstance(event.data, dict) else {}
        default = event.id if event.type == "task.completed" else ""
        id = str(data.get("id") or event.subject or default)
        if event.type == "person.deleted":
            await RecordStore(ctx).delete("people", id)
        elif event.type == "task.deleted":
            await replace_tasks(ctx, [id], lambda id, stored: None)
        elif event.type in KIND_OF:
            await _store_record(ctx, event, {**data, "id": id})


async def _store_record(ctx: TenantContext, event: Event, record: dict[str, Any]) -> None:
    kind = KIND_OF[event.type]
    if kind == "outcomes" and not record.get("completed_at"):
        record = {"finished_at": event.time.isoformat(), **record}
    batch = await store_records(ctx, kind, [record])
    if batch.rejected:
        data = {"event": event.id, "type": event.type, "error": batch.rejected[0]}
        rejected = Event(
            id=f"{event.id}:rejected", source=SOURCE, type="optimizer.rejected", data=data
        )
        await ctx.stores.events.append([rejected])
