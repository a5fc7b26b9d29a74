"""Follows the event log: changes of items reach the index within seconds."""

import asyncio
import time
from collections.abc import Sequence

from shoal import Event, TenantContext

from .indexes import Indexes
from .states import State, newest_states, read_states

REQUEST_SECONDS = 10.0
"""How long a request writes to the index, after its events are in the log. What it has
not written by then, this stream writes.
"""
GRACE_SECONDS = 2.0
POLL_SECONDS = 0.05


async def index_events(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Index the items of `item.created` and `item.updated`; remove deleted ones.

    An event whose data is not an item is rejected.
    """
    indexes = Indexes(ctx.services)
    states, faults = read_states(events)
    newest = list(newest_states(states).values())
    others = [state for state in newest if not _is_being_written(state)]
    await indexes.write(ctx, others)
    while await indexes.unknown(ctx, [state for state in newest if _is_being_written(state)]):
        await asyncio.sleep(POLL_SECONDS)
    await indexes.write(ctx, [state for state in newest if state not in others])
    for event, reason in faults:
        ctx.reject(event, reason)


def _is_being_written(state: State) -> bool:
    """Whether a request may be about to write it: to embed it twice would be waste."""
    age = time.time() - state.version.place[0] / 1000
    return state.by_request and age < REQUEST_SECONDS + GRACE_SECONDS
