from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal_features import keys
from shoal_features.online import ReadPlan, apply_events, read_values
from shoal_features.windows import EventRow, WindowPlan

pytestmark = pytest.mark.anyio
S = 1_000_000
NOW = 1_763_900_000 * S
GRACE = 600


def event(seconds_ago: float, member: str = "", entity: str = "123", **columns) -> EventRow:
    return EventRow(NOW - int(seconds_ago * S), member or f"e{seconds_ago}", entity, columns)


async def answer(online, view, now: int = NOW, entity: str = "123") -> dict:
    plan = ReadPlan("user", [(view, f) for f in view.features])
    return {
        n: orjson.loads(a.json)
        for n, a in zip(
            plan.names, (await read_values(online, plan, [entity], now))[0], strict=True
        )
    }


@pytest.fixture
def counting(view):
    return view(("n", "int64", "count", "", 300))


async def test_an_event_delivered_twice_counts_once(online, counting):
    events = [event(10, "a"), event(20, "b"), event(10, "a")]
    first = await apply_events(online, WindowPlan.of(counting), events, NOW, GRACE)
    second = await apply_events(online, WindowPlan.of(counting), events, NOW, GRACE)
    assert (first.fresh, first.known) == (2, 1)
    assert (second.fresh, second.known) == (0, 3)
    assert await answer(online, counting) == {"n": 2}


async def test_a_window_excludes_its_start_and_includes_its_end(online, counting):
    await apply_events(
        online,
        WindowPlan.of(counting),
        [event(300, "old"), event(299.999999, "in"), event(0, "now")],
        NOW,
        GRACE,
    )
    assert await answer(online, counting) == {"n": 2}


async def test_the_count_falls_as_time_passes(online, counting):
    await apply_events(
        online, WindowPlan.of(counting), [event(0, "a"), event(200, "b")], NOW, GRACE
    )
    assert [(await answer(online, counting, NOW + s * S))["n"] for s in (0, 99, 100, 299, 300)] == [
        2,
        2,
        1,
        1,
        0,
    ]


async def test_events_are_accepted_until_the_end_of_the_grace_period(online, counting):
    taken = await apply_events(
        online, WindowPlan.of(counting), [event(299 + GRACE, "late")], NOW, GRACE
    )
    missed = await apply_events(
        online, WindowPlan.of(counting), [event(300 + GRACE, "too late")], NOW, GRACE
    )
    assert (taken.fresh, taken.late) == (1, ())
    assert [e.member for e in missed.late] == ["too late"]
    assert await answer(online, counting) == {"n": 0}


async def test_an_unknown_entity_is_null_and_an_inactive_one_zero(online, counting):
    await apply_events(online, WindowPlan.of(counting), [event(86_400)], NOW, GRACE)
    assert await answer(online, counting) == {"n": 0}
    assert await answer(online, counting, entity="unknown") == {"n": None}


async def test_a_value_expires_a_ttl_after_its_newest_event(online, view):
    mortal = view(("n", "int64", "count", "", 300), ttl=3600)
    await apply_events(online, WindowPlan.of(mortal), [event(0)], NOW, GRACE)
    assert await answer(online, mortal, NOW + 3600 * S) == {"n": 0}
    assert await answer(online, mortal, NOW + 3600 * S + 1) == {"n": None}


async def test_last_is_the_newest_event_in_any_order_of_arrival(online, view):
    board = view(("board", "string", "last", "board_id", None))
    events = [event(5, board_id="new"), event(50, board_id="old"), event(1, board_id=None)]
    await apply_events(online, WindowPlan.of(board), events, NOW, GRACE)
    assert await answer(online, board) == {"board": "new"}


async def test_events_at_one_time_are_ordered_by_their_names(online, view):
    board = view(("board", "string", "last", "board_id", None))
    for order in ("ab", "ba", "ab"):
        for m in order:
            await apply_events(online, WindowPlan.of(board), [event(5, m, board_id=m)], NOW, GRACE)
        assert await answer(online, board) == {"board": "b"}


async def test_state_outside_the_window_is_dropped(online, counting):
    await apply_events(
        online, WindowPlan.of(counting), [event(s, f"e{s}") for s in range(0, 600, 10)], NOW, GRACE
    )
    later = NOW + 800 * S
    await apply_events(
        online, WindowPlan.of(counting), [replace(event(0, "x"), time=later)], later, GRACE
    )
    assert await online.zcard(keys.window("user", "123", "activity")[0]) == 11
    assert 0 < await online.pttl(keys.window("user", "123", "activity")[0]) <= 900_000


async def test_values_of_another_type_are_ignored(online, view):
    spent = view(("sum", "float64", "sum", "x", 300), ("n", "int64", "count", "x", 300))
    events = [
        event(i, f"e{i}", x=x) for i, x in enumerate([1, 2.5, "3", None, True, [1], float("nan")])
    ]
    await apply_events(online, WindowPlan.of(spent), events, NOW, GRACE)
    assert await answer(online, spent) == {"sum": 3.5, "n": 4}


async def test_a_sum_out_of_range_is_null(online, view):
    spent = view(("sum", "float64", "sum", "x", 300))
    await apply_events(
        online,
        WindowPlan.of(spent),
        [event(1, "a", x=1.7e308), event(2, "b", x=1.7e308)],
        NOW,
        GRACE,
    )
    assert await answer(online, spent) == {"sum": None}


@st.composite
def deliveries(draw):
    """Events of one user in any order, some delivered twice, cut into batches."""
    n = draw(st.integers(1, 25))
    events = [
        EventRow(
            NOW - draw(st.integers(-2, 500)) * S,
            f"m{i:02d}",
            draw(st.sampled_from(["1", "2"])),
            {
                "x": draw(st.none() | st.integers(-3, 3) | st.sampled_from([0.5, 2.25])),
                "k": draw(st.sampled_from(["a", "b", "c", None])),
            },
        )
        for i in range(n)
    ]
    sent = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=8))))
    cut = draw(st.integers(0, len(sent)))
    return events, [sent[:cut], sent[cut:]], NOW + draw(st.integers(0, 200)) * S


def brute(events, entity, now, w):
    inside = sorted(
        (e.time, e.member, e) for e in events if e.entity == entity and now - w * S < e.time <= now
    )
    xs = [e.columns["x"] for _, _, e in inside if e.columns["x"] is not None]
    ks = [e.columns["k"] for _, _, e in inside if e.columns["k"] is not None]
    every = sorted(
        (e.time, e.member, e.columns["k"])
        for e in events
        if e.entity == entity and e.columns["k"] is not None
    )
    return {
        "count": len(inside),
        "sum": sum(xs),
        "mean": sum(xs) / len(xs) if xs else None,
        "min": min(xs) if xs else None,
        "max": max(xs) if xs else None,
        "last": ks[-1] if ks else None,
        "kinds": len(set(ks)),
        "ever": every[-1][2] if every else None,
    }


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deliveries())
async def test_windows_equal_brute_force_under_duplicates_and_disorder(
    stores, open_tenant, view, case
):
    events, batches, now = case
    everything = view(
        ("count", "int64", "count", "", 120),
        ("sum", "float64", "sum", "x", 120),
        ("mean", "float64", "mean", "x", 120),
        ("min", "float64", "min", "x", 120),
        ("max", "float64", "max", "x", 120),
        ("last", "string", "last", "k", 120),
        ("kinds", "int64", "count_distinct", "k", 120),
        ("ever", "string", "last", "k", None),
    )
    online = open_tenant().online
    for batch in batches:
        await apply_events(online, WindowPlan.of(everything), batch, NOW, GRACE)
    for entity in {e.entity for e in events}:
        assert await answer(online, everything, now, entity) == brute(events, entity, now, 120)
