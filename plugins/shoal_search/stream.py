"""Following the event log: what happens to items elsewhere reaches the index within
seconds.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from shoal import Event, Identifier, TenantContext

from .index import Index
from .items import Item, explained
from .parameters import SearchSettings
from .routes import SOURCE

TYPES = ("item.created", "item.updated", "item.deleted")


class Gone(BaseModel):
    """The data of `item.deleted`, as far as it counts."""

    id: Identifier


async def follow(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Index the items of `item.created` and `item.updated` (their `data` is the whole
    item), remove those of `item.deleted`.

    Only the last state of each item counts, so the same events again change nothing.
    What came through the routes is in the index already, and newer than the events
    before it. An event whose data is no item is answered by an event `search.rejected`
    that says why.
    """
    last, faults = states(events, indexed=SOURCE)
    index = Index(ctx.services.settings(SearchSettings), ctx.services.backend("embedder").embed)
    gone = [id for id, item in last.items() if item is None]
    items = [item for item in last.values() if item is not None]
    if gone:
        await index.delete(ctx, gone)
    if items:
        await index.write(ctx, items)
    if faults:
        await ctx.stores.events.append(faults)


def states(
    events: Iterable[Event], indexed: str | None = None
) -> tuple[dict[str, Item | None], list[Event]]:
    """What the events leave of each item, oldest event first: the item, or None where
    it was deleted. And, for the events that make no sense, the events that say so. An
    item whose last event is of the source `indexed` is left out.
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
            faults.append(_fault(event, explained(error)))
        except ValueError as error:
            faults.append(_fault(event, str(error)))
        else:
            last[id] = item
    return last, faults


def _state(event: Event) -> tuple[str, Item | None]:
    """`id` may be the event's subject, and `updated_at` its time."""
    data: Any = event.data if event.data is not None else {}
    if not isinstance(data, dict):
        raise ValueError("data is not an object")
    if event.type == "item.deleted":
        return Gone.model_validate({"id": data.get("id", event.subject)}).id, None
    given = {"id": event.subject, "updated_at": event.time, **data}
    item = Item.model_validate({key: given[key] for key in Item.model_fields if key in given})
    return item.id, item


def _fault(event: Event, error: str) -> Event:
    about = {"id": event.id, "source": event.source, "type": event.type}
    return Event(
        id=f"{event.source}/{event.id}"[-512:],
        source=SOURCE,
        type="search.rejected",
        subject=event.subject,
        data={"event": about, "error": error},
    )
