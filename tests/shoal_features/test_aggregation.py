from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_features import aggregation
from shoal_features.aggregation import aggregate, open_engine, register_relation, values_at
from shoal_features.extraction import event_row, is_read_by
from shoal_features.values import from_micros, to_micros
from shoal_features.views import Feature, View

from .archives import SampleEvent, archive

S = 1_000_000
NOW = 1_763_900_000 * S
W = 120
FEATURES = tuple(
    Feature(*f)
    for f in (
        ("count", "int64", "count", "", W),
        ("sum", "float64", "sum", "x", W),
        ("mean", "float64", "mean", "x", W),
        ("min", "int64", "min", "x", W),
        ("max", "float64", "max", "x", W),
        ("last", "string", "last", "k", W),
        ("kinds", "int64", "count_distinct", "k", W),
        ("ever", "string", "last", "k", None),
        ("what", "string", "last", "type", None),
    )
)
VIEW = View(
    "v",
    "user",
    "user_id",
    "stream",
    FEATURES,
    None,
    ("action.*",),
    ("data.user_id", "data.user", "subject"),
)


@pytest.fixture(scope="module")
def con():
    with open_engine("256MB", 1) as con:
        yield con


def ago(seconds: float):
    return from_micros(NOW) - timedelta(seconds=seconds)


def batch(con, events, view=VIEW, as_of=NOW, **options) -> dict:
    rows = aggregate(
        con, view, register_relation(con, archive(events)), as_of, NOW, **options
    ).to_pylist()
    return {r["entity"]: {f.name: r[f.name] for f in view.features} for r in rows}


hostile = st.sampled_from(
    [1, -2, 2.0, 2.5, "3", None, True, [1], {"a": 1}, 2**53 + 1, "x\"y'z", "é", ""]
)


@st.composite
def histories(draw):
    users = st.sampled_from(["1", 1, "é:{}", "", None, True, 2.5, "a\nb", "2"])
    events = [
        SampleEvent(
            draw(st.sampled_from([f"m{i}", f"m{i}", "same"])),
            ago(draw(st.integers(-5, 300))),
            draw(st.sampled_from(["action.done", "action.seen", "other"])),
            subject=draw(st.sampled_from([None, "1", "2"])),
            data=draw(
                st.none()
                | st.just([1])
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "user_id": users,
                        "user": users,
                        "x": hostile,
                        "k": hostile,
                        "type": hostile,
                    },
                )
            ),
        )
        for i in range(draw(st.integers(0, 15)))
    ]
    distinct = {(e.source, e.id): e for e in reversed(events)}
    return list(distinct.values())


def brute_force(events, entity, as_of) -> dict | None:
    """The features of one entity, from the events as the stream side reads them."""
    seen = [
        o
        for e in events
        if is_read_by(VIEW, e.type)
        and (o := event_row(VIEW, e, to_micros(e.time)))
        and o.entity == entity
    ]
    seen = sorted((o for o in seen if o.time <= as_of), key=lambda o: (o.time, o.member))
    if not seen:
        return None
    from shoal_features.windows import coerce

    inside = [o for o in seen if o.time > as_of - W * S]

    def take(some, dtype, column):
        return [v for o in some if (v := coerce(dtype, o.columns.get(column))) is not None]

    xs, ints, ks = (
        take(inside, "float64", "x"),
        take(inside, "int64", "x"),
        take(inside, "string", "k"),
    )
    ever = take(seen, "string", "k")
    kinds = take(inside, "", "k")
    return {
        "count": len(inside),
        "sum": float(sum(map(float, xs))),
        "mean": sum(map(float, xs)) / len(xs) if xs else None,
        "min": int(min(ints)) if ints else None,
        "max": float(max(xs)) if xs else None,
        "last": ks[-1] if ks else None,
        "kinds": len({(type(k), k) for k in kinds}),
        "ever": ever[-1] if ever else None,
        "what": seen[-1].columns["type"],
    }


ENTITIES = ["1", "2", "é:{}"]


@settings(max_examples=15, deadline=None)
@given(events=histories())
def test_batch_and_stream_read_events_alike(con, events):
    assert batch(con, events) == {
        e: v for e in ENTITIES if (v := brute_force(events, e, NOW)) is not None
    }


@settings(max_examples=15, deadline=None)
@given(
    events=histories(),
    moments=st.lists(
        st.tuples(st.sampled_from(ENTITIES), st.integers(0, 400)), min_size=1, max_size=6
    ),
)
def test_past_values_are_those_of_the_windows_then(con, events, moments):
    entity_rows = pa.table(
        {
            "row": pa.array(range(len(moments)), pa.int64()),
            "entity": [e for e, _ in moments],
            "ts": pa.array([NOW - s * S for _, s in moments], pa.int64()),
        }
    )
    rows = values_at(con, VIEW, register_relation(con, archive(events)), entity_rows).to_pylist()
    nothing = {f.name: None for f in FEATURES}
    for (entity, s), row in zip(moments, rows, strict=True):
        assert {f.name: row[f.name] for f in FEATURES} == (
            brute_force(events, entity, NOW - s * S) or nothing
        )


def test_an_event_archived_twice_counts_once(con):
    event = SampleEvent("a", ago(1), data={"user_id": "1", "x": 2})
    assert batch(con, [event, event])["1"]["sum"] == 2


def test_an_entity_with_empty_windows_gets_zero(con):
    assert batch(con, [SampleEvent("a", ago(W + 10), data={"user": "1"})])["1"]["count"] == 0


def test_the_partitions_cover_all_entities(con):
    events = [SampleEvent(f"e{i}", ago(i), data={"user_id": f"u{i % 17}"}) for i in range(100)]
    parts = [batch(con, events, partition=(k, 4)) for k in range(4)]
    assert {k: v for part in parts for k, v in part.items()} == batch(con, events)
    assert sum(map(len, parts)) == 17


def test_running_again_gives_the_same_table(con):
    events = [
        SampleEvent(
            f"e{i}", ago(i % 50), data={"user_id": f"u{i % 3}", "x": 0.1 * i, "k": f"k{i % 7}"}
        )
        for i in range(500)
    ]

    def run():
        return aggregate(con, VIEW, register_relation(con, archive(events)), NOW, NOW)

    assert run().equals(run())


def test_large_distinct_counts_are_estimated_within_five_percent(con, monkeypatch):
    monkeypatch.setattr(aggregation, "HLL_ABOVE", 1000)
    view = View(
        "v",
        "user",
        "user_id",
        "batch",
        (Feature("n", "int64", "count_distinct", "k", W),),
        None,
        ("action.*",),
        ("data.u",),
    )
    few = [SampleEvent(f"a{i}", ago(1), data={"u": "few", "k": i % 900}) for i in range(2000)]
    many = [SampleEvent(f"b{i}", ago(1), data={"u": "many", "k": i}) for i in range(20_000)]
    got = batch(con, few + many, view)
    assert got["few"]["n"] == 900
    assert got["many"]["n"] == pytest.approx(20_000, rel=0.05)


def test_memory_is_bounded_by_spilling(tmp_path):
    from shoal_features.aggregation import open_engine

    with open_engine("64MB", 1) as con:
        con.execute(
            "CREATE VIEW big AS SELECT 'e' || i AS id, 's' AS source, 'action.a' AS type, "
            f"make_timestamptz({NOW} - i) AS time, NULL::VARCHAR AS subject, "
            "'{\"user\": \"u' || (i % 1000) || '\"}' AS data "
            "FROM range(600000) t(i)"
        )
        view = View(
            "v",
            "user",
            "user_id",
            "batch",
            (Feature("n", "int64", "count", "", W),),
            None,
            ("action.*",),
            ("data.user",),
        )
        table = aggregate(con, view, "big", NOW, NOW)
    assert table.num_rows == 1000 and set(table["n"].to_pylist()) == {600}
