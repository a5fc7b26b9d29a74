"""Which state of an item is the newest."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal import Event
from shoal_search.states import SOURCE, Version, newest_states, read_states

Make = Callable[..., dict[str, Any]]

versions = st.builds(
    Version,
    st.integers(0, 253_402_300_799_999_999),
    st.tuples(st.integers(0, 10**14), st.integers(0, 2**64 - 1)),
    st.integers(0, 10**14),
)


def event(kind: str, data: Any, position: str = "1-0", **fields: Any) -> Event:
    return Event(**{"type": f"item.{kind}", "source": "app", "data": data, **fields}).at(position)


def day(number: int) -> str:
    return f"2026-11-{number:02}T10:00:00Z"


def newest(*events: Event) -> dict[str, str | None]:
    """By id, the text of each item's newest state; None where it is deleted."""
    found = newest_states(read_states(events)[0])
    return {id: state.item.text if state.item else None for id, state in found.items()}


@given(versions, versions)
def test_versions_compare_as_their_texts(one: Version, other: Version) -> None:
    assert (one < other) == (str(one) < str(other))
    assert Version.parse(str(one)) == one


def test_in_any_order_the_latest_time_wins(item: Make) -> None:
    events = [
        event("created", item("1", "first", updated_at=day(1)), "1-0"),
        event("updated", item("1", "newest", updated_at=day(3)), "2-0"),
        event("updated", item("1", "late", updated_at=day(2)), "3-0"),
        event("deleted", {"id": "1", "updated_at": day(1)}, "4-0"),
    ]
    assert all(newest(*order) == {"1": "newest"} for order in permutations(events))


def test_of_equal_times_the_later_place_wins(item: Make) -> None:
    events = [
        event("updated", item("1", "before"), "5-9"),
        event("updated", item("1", "after"), "5-10"),
    ]
    assert newest(*events) == newest(*reversed(events)) == {"1": "after"}


def test_a_deletion_has_a_time_like_any_state(item: Make) -> None:
    gone = event("deleted", {}, "2-0", subject="1", time=day(5))
    assert newest(event("created", item("1", "late", updated_at=day(4)), "3-0"), gone) == {
        "1": None
    }
    assert newest(event("created", item("1", "again", updated_at=day(6)), "3-0"), gone) == {
        "1": "again"
    }


def test_a_requested_deletion_is_newer_than_what_is_before_it(item: Make) -> None:
    ahead = event("updated", item("1", "ahead", updated_at=day(28)), "1-0")
    gone = event("deleted", {"id": "1", "updated_at": day(5)}, "2-0", source=SOURCE)
    stale = event("updated", item("1", "stale", updated_at=day(27)), "3-0")
    back = event("updated", item("1", "back", updated_at=day(29)), "4-0")
    assert newest(ahead, gone) == newest(gone, ahead) == {"1": None}
    assert newest(ahead, gone, stale) == {"1": None}
    assert newest(ahead, gone, stale, back) == {"1": "back"}


def test_subject_and_time_stand_in_for_id_and_date(item: Make) -> None:
    data = item()
    del data["id"], data["updated_at"]
    made = event("created", data | {"unknown": 1}, subject="7")
    [state] = read_states([made])[0]
    assert state.item
    assert (state.id, state.item.updated_at, state.version.updated_at) == (
        "7",
        made.time,
        made.time,
    )


def test_a_state_outside_a_log_counts_as_the_latest(item: Make) -> None:
    before = (datetime.now(UTC) - timedelta(seconds=1)).timestamp() * 1000
    [state] = read_states([Event(type="item.created", data=item())])[0]
    assert state.version.place[0] > before


@pytest.mark.parametrize("data", [None, [], "x", {"id": "1"}])
def test_an_event_without_an_item_is_rejected_with_a_reason(data: Any) -> None:
    wrong = event("created", data, id="e1")
    states, [(rejected, reason)] = read_states([wrong])
    assert states == []
    assert rejected is wrong
    assert reason.startswith("data")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"id": 7},
        {"id": ""},
        {"id": "a\nb"},
        {"id": "x" * 513},
        [],
        {"id": "1", "updated_at": 1},
    ],
)
def test_a_deletion_of_nothing_is_rejected_too(data: Any) -> None:
    assert read_states([event("deleted", data)])[1]


def test_other_events_are_no_states() -> None:
    assert read_states([event("viewed", {"id": "1"})]) == ([], [])
