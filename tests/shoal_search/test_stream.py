"""Following the event log."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shoal import Event, TenantContext
from shoal.contract.events import Rejection
from shoal_search.states import SOURCE, State, Version
from shoal_search.stream import GRACE_SECONDS, REQUEST_SECONDS, index_events

from .conftest import Index

pytestmark = pytest.mark.anyio
Make = Callable[..., dict[str, Any]]


def event(kind: str, data: Any, position: str, **fields: Any) -> Event:
    return Event(**{"type": f"item.{kind}", "source": "app", "data": data, **fields}).at(position)


async def boards(index: Index, ctx: TenantContext, *ids: str) -> dict[str, str]:
    return {id: row["board"] for id, row in (await index.writer.rows(ctx, ids, ["board"])).items()}


async def test_events_reach_the_index_and_again_changes_nothing(
    ctx: TenantContext, index: Index, item: Make
) -> None:
    events = [
        event("created", item("1"), "1-0"),
        event("created", item("2"), "2-0"),
        event("deleted", {"id": "2"}, "3-0"),
        event("created", {"id": "3"}, "4-0"),
    ]
    rejected: list[Rejection] = []
    ctx = replace(ctx, rejections=rejected)
    await index_events(ctx, events)
    await index_events(ctx, events)
    await index_events(ctx, events[:2])
    assert await boards(index, ctx, "1", "2", "3") == {"1": "b1"}
    assert [each.event.id for each in rejected] == [events[3].id] * 2
    assert [e async for _, e in ctx.stores.events.read()] == []


async def test_what_a_request_logged_and_did_not_write_is_written(
    ctx: TenantContext, index: Index, item: Make
) -> None:
    """As after a crash between the log and the index."""
    old = int((time.time() - REQUEST_SECONDS - GRACE_SECONDS) * 1000)
    await index_events(ctx, [event("updated", item("1"), f"{old}-0", source=SOURCE)])
    assert await boards(index, ctx, "1") == {"1": "b1"}


async def test_what_a_request_is_writing_is_awaited(
    ctx: TenantContext, index: Index, item: Make
) -> None:
    position = f"{int(time.time() * 1000)}-0"
    logged = event("updated", item("1"), position, source=SOURCE)
    waiting = asyncio.create_task(index_events(ctx, [logged, event("created", item("2"), "9-0")]))
    while not await boards(index, ctx, "2"):
        await asyncio.sleep(0.01)
    assert not waiting.done()
    version = Version.of(logged.time.replace(year=2030), position)
    await index.writer.write(ctx, [State("1", version, is_deletion=True)])
    await waiting
    assert await boards(index, ctx, "1", "2") == {"2": "b1"}
