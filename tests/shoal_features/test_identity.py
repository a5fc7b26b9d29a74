"""A feature's values are those of its view and definition, not of its name."""

from dataclasses import replace
from datetime import timedelta

import orjson
import pyarrow as pa
import pytest

from shoal import Event
from shoal_features import batch, keys
from shoal_features.aggregation import TIME, offline_schema
from shoal_features.historical_query import plan_query
from shoal_features.ingest import ingest_events
from shoal_features.offline import append_rows
from shoal_features.online import OnlineRow, ReadPlan, read_values, write_rows
from shoal_features.registry import Registry
from shoal_features.values import from_micros, pack
from shoal_features.views import Feature, View

pytestmark = pytest.mark.anyio

NOW = 1_763_900_000_000_000
AT = from_micros(NOW)
PLAIN = View("scores", "user", "user_id", "plain", (Feature("n", "int64"),))
COUNT = Feature("n", "int64", "count", "", 3_600)
STREAM = View("scores", "user", "user_id", "stream", (COUNT,), None, ("item.*",), ("data.user_id",))
BATCH = replace(STREAM, kind="batch")


async def write(stores, view: View, n: object, at: int = NOW) -> None:
    values = {"n": pack(view.identity(view.features[0]), view.features[0].dtype, n, at, at)}
    await write_rows(stores.online, view, [OnlineRow("1", values)], at)
    row = {"entity": "1", "event_timestamp": from_micros(at), "created": from_micros(at), "n": n}
    await append_rows(stores.lake, view, pa.Table.from_pylist([row], offline_schema(view)))


async def read(stores, view: View) -> list:
    """The feature online and in history."""
    features = [(view, view.features[0])]
    served = (await read_values(stores.online, ReadPlan("user", features), ["1"], NOW))[0][0]
    entity_rows = pa.table({"entity": ["1"], "at": pa.array([AT], TIME)})
    history = (await plan_query(stores, features, entity_rows)).run()
    return [orjson.loads(served.json), history["n"][0].as_py()]


OTHERS = {
    "moved to another view": replace(PLAIN, name="other"),
    "of another type": replace(PLAIN, features=(Feature("n", "float64"),)),
    "computed by batch": BATCH,
    "of another window": replace(BATCH, features=(replace(COUNT, window=7_200),)),
    "of other events": replace(BATCH, types=("board.*",)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_another_feature_of_the_name_has_no_values(stores, other):
    before = BATCH if other.kind == "batch" and other is not BATCH else PLAIN
    await write(stores, before, 5)
    assert await read(stores, before) == [5, 5]
    assert await read(stores, other) == [None, None]
    await write(stores, other, 7, NOW - 10_000_000)  # older, and of another feature
    assert await read(stores, other) == [7, 7]


async def test_a_feature_that_comes_back_has_its_history(stores):
    await write(stores, PLAIN, 5)
    described = replace(PLAIN, ttl=86_400, description="x", owner="y", tags={"a": "b"})
    assert await read(stores, described) == [5, 5]


async def test_a_stream_view_may_become_a_batch_view_and_back(stores):
    events = [
        Event(id=f"e{i}", type="item.seen", time=AT - timedelta(minutes=i), data={"user_id": "1"})
        for i in range(3)
    ]
    await stores.events.append(events)
    await ingest_events(stores.online, Registry((STREAM,)), events, NOW)
    assert await read(stores, STREAM) == [3, 3]
    assert await read(stores, BATCH) == [None, None]
    await batch.compute_view(stores, BATCH, AT - timedelta(seconds=90))
    assert await read(stores, BATCH) == [1, 1]
    assert (await read(stores, STREAM))[1] == 3
    await ingest_events(stores.online, Registry((STREAM,)), events, NOW)
    assert await read(stores, STREAM) == [3, 3]


async def test_a_feature_added_to_a_view_is_not_hidden_by_older_rows(stores):
    wider = replace(PLAIN, features=(*PLAIN.features, Feature("m", "int64")))
    await write(stores, PLAIN, 5)
    older = NOW - 10_000_000
    values = {f.name: pack(wider.identity(f), "int64", 4, older, older) for f in wider.features}
    await write_rows(stores.online, wider, [OnlineRow("1", values)], NOW)
    row = {"entity": "1", "event_timestamp": from_micros(older), "created": AT, "n": 4, "m": 4}
    await append_rows(stores.lake, wider, pa.Table.from_pylist([row], offline_schema(wider)))
    assert await read(stores, wider) == [5, 5]
    only_m = replace(wider, features=(wider.features[1],))
    features = [(only_m, only_m.features[0])]
    served = (await read_values(stores.online, ReadPlan("user", features), ["1"], NOW))[0][0]
    entity_rows = pa.table({"entity": ["1"], "at": pa.array([AT], TIME)})
    history = (await plan_query(stores, features, entity_rows)).run()
    assert orjson.loads(served.json) == history["m"][0].as_py() == 4
    await stores.online.unlink(keys.values("user", "1"))
    await batch.restore_online(stores, wider, AT - timedelta(days=1), AT)
    assert await read(stores, wider) == [5, 5]
    served = (await read_values(stores.online, ReadPlan("user", features), ["1"], NOW))[0][0]
    assert orjson.loads(served.json) == 4


async def test_a_null_that_a_row_gives_hides_older_values(stores):
    await write(stores, PLAIN, 5, NOW - 10_000_000)
    await write(stores, PLAIN, None)
    assert await read(stores, PLAIN) == [None, None]


@pytest.mark.parametrize("sizes", [[7], [1, 2], [2, 2, 2], [3, 0, 1]])
async def test_rows_with_and_without_nulls_keep_them(stores, sizes):
    two = replace(PLAIN, features=(Feature("a", "int64"), Feature("b", "string")))
    values = [(None if n % 2 else n, None if n % 3 else str(n)) for n in range(sum(sizes))]
    rows = [
        {"entity": str(n), "event_timestamp": AT, "created": AT, "a": a, "b": b}
        for n, (a, b) in enumerate(values)
    ]
    schema, starts = offline_schema(two), [sum(sizes[:k]) for k in range(len(sizes))]
    parts = [rows[start : start + n] for start, n in zip(starts, sizes, strict=True)]
    table = pa.concat_tables(pa.Table.from_pylist(part, schema) for part in parts)
    await write(stores, replace(PLAIN, features=two.features[:1]), 7, NOW - 1)
    await append_rows(stores.lake, two, table)
    wanted = pa.table(
        {"entity": [r["entity"] for r in rows], "at": pa.array([AT] * len(rows), TIME)}
    )
    history = await plan_query(stores, [(two, f) for f in two.features], wanted)
    answer = history.run()
    assert list(zip(answer["a"].to_pylist(), answer["b"].to_pylist(), strict=True)) == values
