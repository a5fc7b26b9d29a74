"""Extreme numbers, times and ids: the same online, offline and in batch."""

import io
import math
import struct
from datetime import UTC, datetime, timedelta

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Event
from shoal_features import jobs, keys
from shoal_features.aggregation import aggregate, open_engine, register_relation, values_at
from shoal_features.handlers.requests import PARQUET
from shoal_features.ingest import ingest_events
from shoal_features.online import ReadPlan, apply_events, read_values
from shoal_features.registry import Registry
from shoal_features.rows import encode_json_rows
from shoal_features.values import fit_number, pack, unpack
from shoal_features.windows import EventRow, WindowPlan

from .archives import SampleEvent, archive
from .test_jobs import Run
from .test_routes import serve

pytestmark = pytest.mark.anyio
S = 1_000_000
NOW = 1_763_900_000 * S
W = 120


def single(x: float) -> float:
    return struct.unpack("<f", struct.pack("<f", x))[0]


async def three_ways(online, view, events: list[tuple[int, dict]], now: int = NOW) -> list[dict]:
    """The features of one user online, offline and in batch.

    Events are given as (seconds ago, data).
    """
    seen = [EventRow(NOW - s * S, f"test\x1fe{i}", "1", data) for i, (s, data) in enumerate(events)]
    made = [
        SampleEvent(
            f"e{i}", datetime.fromtimestamp(NOW / 1e6 - s, UTC), data={"user_id": "1", **data}
        )
        for i, (s, data) in enumerate(events)
    ]
    await apply_events(online, WindowPlan.of(view), seen, now, 600)
    plan = ReadPlan("user", [(view, f) for f in view.features])
    live = dict(
        zip(
            plan.names,
            [orjson.loads(a.json) for a in (await read_values(online, plan, ["1"], now))[0]],
            strict=True,
        )
    )
    entity_rows = pa.table(
        {"row": pa.array([0], pa.int64()), "entity": ["1"], "ts": pa.array([now], pa.int64())}
    )
    with open_engine("256MB", 1) as con:
        relation = register_relation(con, archive(made))
        tables = [
            values_at(con, view, relation, entity_rows),
            aggregate(con, view, relation, now, now),
        ]
    return [live, *({n: t.to_pylist()[0][n] for n in plan.names} for t in tables)]


@pytest.mark.parametrize(
    ("dtype", "function", "amounts", "expected"),
    [
        ("int64", "sum", [], 0),
        ("int64", "sum", [1e300], None),
        ("int64", "sum", [2**62, 2**62], None),
        ("int64", "sum", [-(2**62), -(2**62)], -(2**63)),
        ("int64", "sum", [2.5], 2),
        ("int64", "sum", [3.5], 4),
        ("int64", "sum", [-2.5, 1], -2),
        ("int32", "sum", [2_000_000_000, 2_000_000_000], None),
        ("int32", "sum", [2_000_000_000, 0.4], 2_000_000_000),
        ("int32", "max", [2**31, 7, 8.5], 7),
        ("float64", "sum", [], 0),
        ("float64", "sum", [1.7e308, 1.7e308], None),
        ("float64", "mean", [1.7e308, 1.7e308], None),
        ("float32", "sum", [0.1], single(0.1)),
        ("float32", "sum", [3e38, 3e38], None),
        ("float32", "sum", [1e39, -1e39], 0),
        ("float32", "mean", [1e39], None),
        ("float32", "mean", [0.1], single(0.1)),
        ("float32", "min", [0.3, 0.1, -1e39], single(0.1)),
        ("float32", "max", [0.1, 1e39], single(0.1)),
        ("float32", "last", [1e39, 0.1], single(0.1)),
    ],
)
async def test_a_number_is_the_same_however_it_is_computed(
    online, view, dtype, function, amounts, expected
):
    one = view(("x", dtype, function, "x", W), ("n", "int64", "count", "", W))
    answers = await three_ways(
        online, one, [(10 + i, {"x": x}) for i, x in enumerate(amounts)] + [(5, {})]
    )
    assert [a["x"] for a in answers] == [expected] * 3


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=90))
async def test_sums_of_fractions_keep_what_rounding_lost(open_tenant, view, cents):
    one = view(("total", "float64", "sum", "x", W), ("middle", "float64", "mean", "x", W))
    values = [n / 100 for n in cents]
    events = [(1 + i % 100, {"x": x}) for i, x in enumerate(values)]
    exact = math.fsum(values)
    # Of a compensated sum (Higham, Accuracy and Stability, 4.3).
    slack = 2 * math.ulp(1) * sum(map(abs, values))
    for answer in await three_ways(open_tenant().online, one, events):
        assert abs(answer["total"] - exact) <= slack
        assert abs(answer["middle"] * len(values) - exact) <= 4 * slack


async def test_a_last_float32_has_single_precision(online, view):
    one = view(("x", "float32", "last", "x", None))
    assert [a["x"] for a in await three_ways(online, one, [(9, {"x": 0.1}), (5, {"x": 1e39})])] == [
        single(0.1)
    ] * 3


async def test_a_last_without_a_window_expires_by_its_own_event(online, view):
    one = view(("board", "string", "last", "board", None), ("n", "int64", "count", "", W), ttl=3600)
    for age, expected in ((3600, "b"), (3601, None)):
        live, offline, _ = await three_ways(online, one, [(age, {"board": "b"}), (60, {})])
        assert live == offline == {"board": expected, "n": 1}
        await online.delete(keys.values("user", "1"))


def test_computed_numbers_are_converted_to_the_feature_type():
    assert [fit_number("int64", b"%d" % x) for x in (2**63 - 1, 2**63)] == [
        b"9223372036854775807",
        b"null",
    ]
    assert (
        fit_number("int32", b"1e300"),
        fit_number("float32", b"1e39"),
        fit_number("float32", b"null"),
    ) == (
        b"null",
        b"null",
        b"null",
    )
    assert (fit_number("float64", b"0.1"), fit_number("string", b'"1e39"')) == (b"0.1", b'"1e39"')


def test_a_float32_is_stored_in_single_precision_or_refused():
    assert orjson.loads(unpack(pack(b"abcd", "float32", 0.1, NOW, NOW)).json) == single(0.1)
    with pytest.raises(ValueError, match="too large for a float32"):
        pack(b"abcd", "float32", 1e39, NOW, NOW)


async def test_one_huge_number_does_not_stop_the_nightly_run(stores, view):
    cents = view(("cents", "int64", "sum", "amount", 86_400 * 30), kind="batch")
    later = view(("n", "int64", "count", "", 86_400 * 30), kind="batch", name="later")
    registry = Registry((cents, later))
    await stores.online.set(keys.REGISTRY, orjson.dumps(registry.to_dict()))
    at = datetime.now(UTC) - timedelta(days=2)
    await stores.events.append(
        [Event(type="action.done", time=at, data={"user_id": "1", "amount": 1e300})]
    )
    await jobs.materialize(Run(stores))
    plan = ReadPlan("user", registry.resolve("user", ["cents", "n"]))
    answers = (
        await read_values(stores.online, plan, ["1"], int(at.timestamp() * 1e6) + 3 * 86_400 * S)
    )[0]
    assert [a.json for a in answers] == [b"null", b"1"]


async def test_a_rounded_sum_of_integers_is_the_same_in_history(stores, view):
    registry = Registry(
        (
            view(
                ("cents", "int64", "sum", "amount", 86_400),
                ("x", "float32", "mean", "amount", 86_400),
            ),
        )
    )
    await stores.online.set(keys.REGISTRY, orjson.dumps(registry.to_dict()))
    events = [
        Event(
            type="action.done",
            time=datetime.now(UTC) - timedelta(seconds=9),
            data={"user_id": "1", "amount": 2.7},
        )
    ]
    await stores.events.append(events)
    await ingest_events(stores.online, registry, events)
    async with serve(stores) as http:
        rows = [{"user": "1", "event_timestamp": datetime.now(UTC).isoformat()}]
        answer = await http.post(
            "/features/historical", json={"entities": rows, "features": ["cents", "x"]}
        )
    assert [(r["cents"], r["x"]) for r in answer.json()["rows"]] == [(3, single(2.7))]
    assert (await jobs.consistency(Run(stores, settle=0)))["mismatches"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"entities": [], "entity": "nosuch"},
        {"entities": [], "entity": [1]},
        {"as_of": "2026-01-01T00:00:00Z", "entity": ["user"]},
        {"as_of": "2026-01-01T00:00:00Z", "entity": {"a": 1}},
        {"entities": [{"user": "1", "event_timestamp": "0001-01-01T00:00:00Z"}]},
    ],
)
async def test_an_invalid_historical_request_is_refused_with_a_location(stores, body):
    async with serve(stores) as http:
        answer = await http.post("/features/historical", json=body | {"features": ["boards_30d"]})
    assert answer.status_code == 422 and answer.json()["errors"][0]["location"] in (
        "entity",
        "event_timestamp",
    )


async def test_a_historical_request_without_any_views_is_refused(stores):
    await stores.online.set(keys.REGISTRY, orjson.dumps(Registry().to_dict()))
    async with serve(stores) as http:
        assert (
            await http.post("/features/historical", json={"entities": [], "features": ["a"]})
        ).status_code == 422


TIME = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())


@pytest.mark.parametrize(
    ("ids", "times"),
    [
        (pa.array([["a"]]), TIME),
        (pa.array([b"\xff"]), TIME),
        (NOT_UTF8, TIME),
        (pa.array(["a"]), pa.array([300_000_000_000_000_000], pa.timestamp("us", "UTC"))),
    ],
)
async def test_parquet_with_invalid_ids_or_times_is_refused(stores, ids, times):
    sink = io.BytesIO()
    pq.write_table(pa.table({"user": ids, "event_timestamp": times}), sink)
    async with serve(stores) as http:
        answer = await http.post(
            "/features/historical?features=boards_30d",
            content=sink.getvalue(),
            headers={"content-type": PARQUET},
        )
        upload = await http.post("/features/datasets/d", content=sink.getvalue())
    assert answer.status_code == 422 and upload.status_code in (400, 422)


@pytest.fixture
def drivers(open_tenant, tmp_path):
    """A Feast store on Shoal with the offline rows of two drivers."""
    pytest.importorskip("feast")
    from . import test_feast as feast_side

    with feast_side.Server(open_tenant()) as server:
        where = {"url": f"http://127.0.0.1:{server.port}", "key": "shoal_id_secret"}
        config = feast_side.RepoConfig(
            project="shoal",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "shoal_features.feast_online.ShoalOnlineStore", **where},
            offline_store={"type": "shoal_features.feast_offline.ShoalOfflineStore", **where},
            entity_key_serialization_version=3,
        )
        store = feast_side.FeatureStore(config=config)
        store.apply([feast_side.driver, feast_side.stats])
        store.push(
            "stats_push",
            feast_side.frame(driver_id=[1, 2], rate=[0.1, 0.2]),
            to=feast_side.PushMode.OFFLINE,
        )
        yield store


@pytest.mark.filterwarnings("ignore")
def test_rows_without_an_id_have_null_features(drivers):
    import pandas as pd

    for ids, rates in (([None, 1, None, 2, 3], [None, 0.1, None, 0.2, None]), ([None], [None])):
        for dtype in (float, "Int64", object):
            entity_rows = pd.DataFrame(
                {
                    "driver_id": pd.Series(ids, dtype=dtype),
                    "event_timestamp": [datetime.now(UTC)] * len(ids),
                }
            )
            got = drivers.get_historical_features(entity_rows, ["driver_stats:rate"]).to_arrow()
            assert got["rate"].to_pylist() == rates


def test_an_offline_push_from_feast_sends_the_tenant(monkeypatch):
    pytest.importorskip("feast")
    from types import SimpleNamespace

    from shoal_features import feast_offline
    from shoal_features.feast_http import ShoalError

    sent: list[dict] = []
    monkeypatch.setattr(
        feast_offline, "push_rows", lambda config, view, rows, to, query: sent.append(query)
    )
    source = SimpleNamespace(timestamp_field="event_timestamp", created_timestamp_column="created")
    one, config = (
        SimpleNamespace(name="v", batch_source=source),
        SimpleNamespace(offline_store=None),
    )

    def write(*tenants: str) -> None:
        table = pa.table(
            {
                "tenant_id": tenants,
                "user_id": tenants,
                "event_timestamp": [datetime.now(UTC)] * len(tenants),
            }
        )
        feast_offline.ShoalOfflineStore.offline_write_batch(config, one, table, None)  # type: ignore[arg-type]

    write("globex", "globex")
    assert sent == [{"tenant": "globex"}]  # and Shoal refuses a tenant that is not the key's
    with pytest.raises(ShoalError, match="2 tenants"):
        write("globex", "acme")


SPELLINGS = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.5+00:00",
    "2026-01-01T00:00:00.123456789Z",
    "2026-01-01 00:00:00+00",
    "20260101T000000Z",
    "2026-W01-1T00:00:00Z",
    "2026-01-01T00:00:00,5Z",
    "2026-01-01T00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:60Z",
    "2026-01-01T00:00:00+23:59",
    "2026-01-01t00:00:00z",
    "2026-1-1T0:0:0Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.9999999+00:00",
    "9999-12-31T23:59:59.999999-14:00",
    "10000-01-01T00:00:00Z",
    "2026-01-01T00:00:00+00:00:30",
    "2026-01-01T00:00:00 +00:00",
    "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00",
    "\u0662026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z\u0000",
]
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([2**53, 2**63, -(2**63), 2**63 - 1, 10**16]).flatmap(
        lambda n: st.integers(max(n - 3, -(2**63)), n + 3)
    ),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(2**53, 2**63).map(float),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(NUMBERS | st.sampled_from([*SPELLINGS, True, "1e16"]), min_size=1, max_size=8))
async def test_values_read_the_same_online_and_in_history(stores, open_tenant, view, values):
    functions = [
        (dtype, function)
        for dtype in ("int32", "int64", "float32", "float64")
        for function in ("min", "max", "last")
    ] + [("string", "last"), ("bool", "last"), ("unix_timestamp", "last")]
    features = [
        (f"{function}_{dtype}_{window}", dtype, function, "x", window)
        for dtype, function in functions
        for window in ((W, None) if function == "last" else (W,))
    ]
    everything = view(*features, ("kinds", "int64", "count_distinct", "x", W))
    online = open_tenant().online
    events = [(len(values) - i, {"x": x}) for i, x in enumerate(values)]
    live, *others = await three_ways(online, everything, events)
    for other in others:
        assert live == orjson.loads(encode_json_rows(pa.Table.from_pylist([other])))["rows"][0]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_time_is_read_the_same_however_it_is_written(online, view, spelling):
    one = view(("x", "unix_timestamp", "last", "x", W), ("n", "int64", "count", "", W))
    live, *others = await three_ways(online, one, [(1, {"x": spelling})])
    try:
        expected = datetime.fromisoformat(spelling).astimezone(UTC)
    except (ValueError, OverflowError):
        expected = None
    if spelling == "2026-01-01T00:00:00":
        expected = None
    assert [other["x"] for other in others] == [expected] * 2
    assert live["x"] == (expected and expected.isoformat().replace("+00:00", "Z"))
