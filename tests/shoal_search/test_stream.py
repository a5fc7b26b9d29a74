"""Following the event log."""

from collections.abc import Callable
from typing import Any

import pytest

from shoal import Event, TenantContext
from shoal_search.index import Index
from shoal_search.stream import index_events, latest_states

Make = Callable[..., dict[str, Any]]


def event(kind: str, data: Any, **fields: Any) -> Event:
    return Event(type=f"item.{kind}", data=data, source="app", **fields)


def test_the_last_state_of_each_item_counts(item: Make) -> None:
    last, faults = latest_states(
        [
            event("created", item("1", "old")),
            event("updated", item("1", "new")),
            event("created", item("2")),
            event("deleted", None, subject="2"),
        ]
    )
    assert (last["1"] and last["1"].text, last["2"], faults) == ("new", None, [])


def test_subject_and_time_stand_in_for_id_and_date(item: Make) -> None:
    data = item()
    del data["id"], data["updated_at"]
    made = event("created", data | {"unknown": 1}, subject="7")
    (found,) = latest_states([made])[0].values()
    assert found and (found.id, found.updated_at) == ("7", made.time)


@pytest.mark.parametrize("data", [None, [], "x", {"id": "1"}])
def test_an_event_without_an_item_is_answered_by_a_rejection(data: Any) -> None:
    last, (fault,) = latest_states([event("created", data, id="e1")])
    assert last == {}
    assert fault.type == "search.rejected"
    assert fault.data["event"] == {"id": "e1", "source": "app", "type": "item.created"}
    assert fault.data["error"]


@pytest.mark.parametrize("data", [{}, {"id": 7}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 513}, []])
def test_a_deletion_of_nothing_is_answered_too(data: Any) -> None:
    assert latest_states([event("deleted", data)])[1]


def test_an_older_event_does_not_undo_a_later_request(item: Make) -> None:
    routes = Event(
        type="item.updated", source="shoal/search", subject="1", data=item("1", "posted")
    )
    older, newer = event("created", item("1", "older")), event("updated", item("1", "newer"))
    assert latest_states([older, routes], indexed="shoal/search") == ({}, [])
    found = latest_states([routes, newer], indexed="shoal/search")[0]["1"]
    assert found and found.text == "newer"


@pytest.mark.anyio
async def test_events_reach_the_index_and_again_changes_nothing(
    ctx: TenantContext, index: Index, item: Make
) -> None:
    events = [
        event("created", item("1")),
        event("created", item("2")),
        event("deleted", {"id": "2"}),
        event("created", {"id": "3"}),
    ]
    await index_events(ctx, events)
    await index_events(ctx, events)
    assert await index.boards(ctx, ["1", "2", "3"]) == {"1": "b1"}
    logged = [e async for _, e in ctx.stores.events.read()]
    assert {(e.type, e.id) for e in logged} == {("search.rejected", f"app/{events[3].id}")}


@pytest.mark.anyio
async def test_what_came_through_the_routes_is_not_indexed_again(
    ctx: TenantContext, index: Index, item: Make
) -> None:
    await index_events(
        ctx, [Event(type="item.updated", source="shoal/search", subject="1", data=item("1"))]
    )
    assert await index.boards(ctx, ["1"]) == {}
