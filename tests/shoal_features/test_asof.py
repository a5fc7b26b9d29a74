import os
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_features.asof import as_of
from shoal_features.values import from_micros

TIME = pa.timestamp("us", "UTC")
T0 = 1_763_900_000


def t(seconds: float):
    return from_micros(T0 * 1_000_000) + timedelta(seconds=seconds)


def rows_of(entity_rows) -> pa.Table:
    return pa.table(
        {
            "entity": pa.array([e for e, _, _ in entity_rows], pa.string()),
            "at": pa.array([t(a) for _, a, _ in entity_rows], TIME),
            "cutoff": pa.array([t(c) for _, _, c in entity_rows], TIME),
        }
    )


def history_of(known) -> pa.Table:
    return pa.table(
        {
            "entity": pa.array([e for e, _, _, _ in known], pa.string()),
            "event_timestamp": pa.array([t(a) for _, a, _, _ in known], TIME),
            "created": pa.array([t(c) for _, _, c, _ in known], TIME),
            "v": pa.array([v for _, _, _, v in known], pa.int64()),
        }
    )


def brute_force(entity_rows, known, ttl, known_by):
    out = []
    for entity, at, cutoff in entity_rows:
        limit = {"none": None, "column": cutoff}.get(known_by, known_by)
        best = None
        for n, (e, event, created, v) in enumerate(known):
            if e == entity and event <= at and (limit is None or created <= limit):
                best = max(
                    best or (event, created, n, v), (event, created, n, v), key=lambda b: b[:3]
                )
        fresh = best is not None and (ttl is None or at - best[0] <= ttl)
        out.append((t(best[0]), best[3]) if fresh else (None, None))
    return out


def answer(entity_rows, known, ttl, known_by):
    cut = (
        {"none": None, "column": "cutoff"}.get(known_by)
        if isinstance(known_by, str)
        else t(known_by)
    )
    table = as_of(rows_of(entity_rows), history_of(known), ["v"], ttl, cut)
    return list(zip(table["event_timestamp"].to_pylist(), table["v"].to_pylist(), strict=True))


times = st.integers(0, 8)
entities = st.sampled_from(["a", "b", ""])


@settings(max_examples=int(os.environ.get("SHOAL_EXAMPLES", "150")), deadline=None)
@given(
    entity_rows=st.lists(st.tuples(entities, times, times), max_size=8),
    known=st.lists(st.tuples(entities, times, times, st.none() | st.integers(0, 99)), max_size=14),
    ttl=st.none() | st.integers(1, 5),
    known_by=st.just("none") | st.just("column") | times,
)
def test_the_join_equals_a_join_by_brute_force(entity_rows, known, ttl, known_by):
    assert answer(entity_rows, known, ttl, known_by) == brute_force(
        entity_rows, known, ttl, known_by
    )


def test_a_value_is_known_from_its_own_microsecond_on():
    assert answer([("a", 5, 0)], [("a", 5, 5, 1)], None, "none")[0][1] == 1
    assert answer([("a", 5, 0)], [("a", 5.000001, 5, 1)], None, "none")[0][1] is None


def test_the_ttl_includes_its_end():
    assert answer([("a", 10, 0)], [("a", 5, 5, 1)], 5, "none")[0][1] == 1
    assert answer([("a", 10.000001, 0)], [("a", 5, 5, 1)], 5, "none")[0][1] is None


def test_ties_are_decided_by_created_time_then_order_of_writing():
    assert answer([("a", 9, 0)], [("a", 5, 7, 1), ("a", 5, 6, 2)], None, "none")[0][1] == 1
    assert answer([("a", 9, 0)], [("a", 5, 7, 1), ("a", 5, 7, 2)], None, "none")[0][1] == 2


def test_a_correction_is_invisible_before_its_created_time():
    known = [("a", 1, 2, 10), ("a", 1, 8, 11)]
    assert [v for _, v in answer([("a", 5, 5), ("a", 5, 8)], known, None, "column")] == [10, 11]
    assert [v for _, v in answer([("a", 5, 0)], known, None, 5)] == [10]


@pytest.mark.parametrize("known_by", ["none", "column", 3])
def test_a_join_without_rows_or_history_is_empty(known_by):
    assert answer([], [("a", 1, 1, 1)], 1, known_by) == []
    assert answer([("a", 1, 1)], [], 1, known_by) == [(None, None)]
