"""Follows the event log: changes of items reach the index within seconds."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from shoal import Event, Identifier, TenantContext, describe_validation_error

from .index import Index
from .items import Item
from .parameters import SearchSettings
from .routes import SOURCE

TYPES = ("item.created", "item.updated", "item.deleted")


class DeletedItem(BaseModel):
    """The data of `item.deleted`; other fields are ignored."""

    id: Identifier


async def index_events(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Index the items of `item.created` and `item.updated`; remove deleted ones.

    Only the last state of each item counts, so that the same events again change
    nothing. What came through the routes is already indexed and newer than the events
    before it. An event whose data is not an item is answered by a `search.rejected`
    event that says why.
    """
    last, faults = latest_states(events, indexed=SOURCE)
    index = Index(ctx.services.settings(SearchSettings), ctx.services.backend("embedder").embed)
    gone = [id for id, item in last.items() if item is None]
    items = [item for item in last.values() if item is not None]
    if gone:
        await index.delete(ctx, gone)
    if items:
        await index.write(ctx, items)
        ctx.usage.add("embedding_texts", len(items))
    if faults:
        await ctx.stores.events.append(faults)


def latest_states(
    events: Iterable[Event], indexed: str | None = None
) -> tuple[dict[str, Item | None], list[Event]]:
    """Reduce events, oldest first, to the last state of each item.

    Args:
        events: Events of items; others are ignored.
        indexed: Items whose last event has this source are omitted.

    Returns:
        Each item by id, None where it was deleted; and a `search.rejected` event for
        each event whose data is not an item.
    """
    last: dict[str, Item | None] = {}
    faults: list[Event] = []
    for event in events:
        if event.type not in TYPES:
            continue
        if event.source == indexed:
            last.pop(event.subject or "", None)
            continue
        try:
            id, item = _state(event)
        except ValidationError as error:
            faults.append(_rejected_event(event, describe_validation_error(error)))
        except ValueError as error:
            faults.append(_rejected_event(event, str(error)))
        else:
            last[id] = item
    return last, faults


def _state(event: Event) -> tuple[str, Item | None]:
    """The item; its id defaults to the event's subject, its time to the event's."""
    data: Any = event.data if event.data is not None else {}
    if not isinstance(data, dict):
        raise ValueError("data is not an object")
    if event.type == "item.deleted":
        return DeletedItem.model_validate({"id": data.get("id", event.subject)}).id, None
    given = {"id": event.subject, "updated_at": event.time, **data}
    item = Item.model_validate({key: given[key] for key in Item.model_fields if key in given})
    return item.id, item


def _rejected_event(event: Event, error: str) -> Event:
    about = {"id": event.id, "source": event.source, "type": event.type}
    return Event(
        id=f"{event.source}/{event.id}"[-512:],
        source=SOURCE,
        type="search.rejected",
        subject=event.subject,
        data={"event": about, "error": error},
    )
