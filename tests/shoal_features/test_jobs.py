import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from shoal import Event, InternalError, Invalid
from shoal_features import batch, jobs, keys, offline
from shoal_features.aggregation import offline_schema
from shoal_features.catalog import Catalog
from shoal_features.datasets import Dataset
from shoal_features.historical_query import plan_query
from shoal_features.ingest import ingest_events
from shoal_features.online import ReadPlan, read_values
from shoal_features.registry import Registry
from shoal_features.values import from_micros, pack, unpack
from shoal_features.views import Feature, View

from .shared import REGISTRY

pytestmark = pytest.mark.anyio

BOARDS = REGISTRY.view("user_boards")
NEW_YORK = ZoneInfo("America/New_York")


class Run:
    """The context of a running job."""

    def __init__(self, *stores, due: datetime | None = None, **arguments) -> None:
        self.run_id, self.arguments = "r", arguments
        self.tenants = [SimpleNamespace(tenant=s.online._tenant, stores=s) for s in stores]
        self.scheduled_for = due or datetime.now(UTC)
        self.shown: list[tuple] = []

    def progress(self, done, total, message="") -> None:
        self.shown.append((done, total, message))


async def boards(stores, user: str, *times: datetime) -> None:
    await stores.events.append(
        [Event(type="board.created", time=t, data={"user_id": user}) for t in times]
    )


async def online(stores, user: str, feature: str = "boards_30d"):
    raw = await stores.online.hget(keys.values("user", user), feature)
    return json.loads(unpack(raw).json) if raw else None


async def offline_rows(stores, view: View = BOARDS) -> list[dict]:
    table = await offline.read_range(stores.lake, view, None, None)
    return (
        sorted(table.to_pylist(), key=lambda r: (r["event_timestamp"], r["entity"], r["created"]))
        if table
        else []
    )


def ago(**kw) -> datetime:
    return datetime.now(UTC) - timedelta(**kw)


async def test_the_batch_runs_at_three_and_is_late_at_six():
    from shoal_features import shoal_capabilities

    job = next(j for c in shoal_capabilities() for j in c.jobs if j.name == "materialize")
    assert (job.cron, job.timezone, job.deadline) == (
        "0 3 * * *",
        None,
        timedelta(hours=3),
    )  # None: the platform's zone


async def test_a_manual_run_computes_as_of_now(stores):
    await boards(stores, "1", ago(seconds=5), ago(days=29), ago(days=31))
    result = await jobs.materialize(Run(stores))
    assert await online(stores, "1") == 2
    assert (result["rows"], result["changed"]) == (1, 1)


async def test_a_scheduled_run_computes_as_of_midnight_in_its_zone(stores):
    due = datetime(2026, 11, 20, 3, 0, tzinfo=NEW_YORK)
    midnight = datetime(2026, 11, 20, tzinfo=NEW_YORK)
    await boards(stores, "1", midnight, midnight + timedelta(seconds=1))
    await jobs.materialize(Run(stores, due=due))
    assert [(r["event_timestamp"], r["boards_30d"]) for r in await offline_rows(stores)] == [
        (midnight.astimezone(UTC), 1)
    ]


async def test_running_a_day_again_changes_nothing(stores):
    await boards(stores, "1", *(ago(days=d) for d in range(2, 9)))
    day = ago(days=1).date().isoformat()
    first = await jobs.materialize(Run(stores, date=day))
    rows, value = await offline_rows(stores), await stores.online.hgetall(keys.values("user", "1"))
    again = await jobs.materialize(Run(stores, date=day))
    assert (first["changed"], again["changed"]) == (1, 0)
    assert await offline_rows(stores) == rows
    assert await stores.online.hgetall(keys.values("user", "1")) == value


async def test_a_late_event_adds_a_correction_to_its_day(stores):
    await boards(stores, "1", ago(days=3))
    day = ago(days=1).date().isoformat()
    await jobs.materialize(Run(stores, date=day))
    await boards(stores, "1", ago(days=2))
    assert (await jobs.materialize(Run(stores, date=day)))["changed"] == 1
    assert [r["boards_30d"] for r in await offline_rows(stores)] == [1, 2]
    assert await online(stores, "1") == 2


async def test_the_nightly_run_corrects_the_days_of_late_events(stores):
    due = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0)
    await boards(stores, "1", due - timedelta(days=10))
    await anyio.sleep(0.005)  # the log counts in milliseconds
    await jobs.materialize(Run(stores, due=due - timedelta(days=1)))
    before = len(await offline_rows(stores))
    await boards(stores, "1", due - timedelta(days=3))
    await jobs.materialize(Run(stores, due=due))
    rows = await offline_rows(stores)
    midnight = due.replace(hour=0)
    days = [(midnight - r["event_timestamp"]).days for r in rows[:]]
    assert before == 1
    assert sorted(zip(days, (r["boards_30d"] for r in rows), strict=True)) == [
        (0, 2),
        (1, 1),
        (1, 2),
        (2, 2),
    ]


async def test_missed_nights_are_computed_by_the_next_run(stores):
    due = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0)
    run, midnight = Run(stores, due=due), due.replace(hour=0)
    for days, made_up in ((1, [0]), (3, [2, 1, 0]), (30, [7, 6, 5, 4, 3, 2, 1, 0])):
        await stores.online.set(
            keys.LAST_NIGHTLY_RUN, int((due - timedelta(days=days)).timestamp() * 1000)
        )
        moments = await jobs._times_to_compute(run, run.tenants[0])
        assert [(midnight - at).days for at in moments] == made_up


async def test_nulls_and_drift_are_measured_rarely_and_by_hand(stores):
    await boards(stores, "1", ago(days=2))
    await jobs.materialize(Run(stores))
    due = datetime.now(UTC).replace(second=0, microsecond=0)

    async def looked(run: Run) -> bool:
        before = [e async for _, e in stores.events.read(types=["metric"])]
        await jobs.watch(run)
        after = [e async for _, e in stores.events.read(types=["metric"])]
        return any(e.data["metric"] == "features.null_share" for e in after[len(before) :])

    assert [
        await looked(run) for run in (Run(stores, due=due), Run(stores, due=due), Run(stores))
    ] == [True, False, True]


async def test_the_drop_to_zero_is_written(stores):
    await boards(stores, "1", ago(days=31))
    await jobs.materialize(Run(stores))
    assert await online(stores, "1") == 0


async def test_a_job_killed_before_it_writes_leaves_the_old_values(stores, monkeypatch):
    await boards(stores, "1", ago(days=2))
    await jobs.materialize(Run(stores))
    await boards(stores, "1", ago(days=1))

    async def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(offline, "append_changes", killed)
    with pytest.raises(KeyboardInterrupt):
        await jobs.materialize(Run(stores))
    assert await online(stores, "1") == 1
    monkeypatch.undo()
    await jobs.materialize(Run(stores))
    assert await online(stores, "1") == 2


async def test_a_job_killed_while_writing_is_completed_by_the_next(stores, monkeypatch):
    users = [f"u{n}" for n in range(9)]
    for user in users:
        await boards(stores, user, ago(days=2))
    await jobs.materialize(Run(stores))
    for user in users:
        await boards(stores, user, ago(days=1))
    write, calls = batch.write_rows, []

    async def killed(online, view, rows, now):
        calls.append(1)
        await write(online, view, list(rows)[:4], now)
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "write_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        await jobs.materialize(Run(stores, views=["user_boards"]))
    assert sorted([await online(stores, u) for u in users]) == [1] * 5 + [2] * 4
    monkeypatch.undo()
    await jobs.materialize(Run(stores))
    assert [await online(stores, u) for u in users] == [2] * 9
    assert (await jobs.consistency(Run(stores, settle=0)))["mismatches"] == []


async def test_one_failing_tenant_leaves_the_others_computed(open_tenant, monkeypatch):
    first, second = open_tenant(), open_tenant()
    await boards(first, "1", ago(days=2))
    await boards(second, "1", ago(days=2))
    compute = batch.compute_view

    async def faulty(stores, *args, **options):
        if stores is first:
            raise ValueError("a broken file")
        return await compute(stores, *args, **options)

    monkeypatch.setattr(batch, "compute_view", faulty)
    with pytest.raises(InternalError, match=r"1 of 2 tenants failed.*a broken file"):
        await jobs.materialize(Run(first, second))
    assert await online(second, "1") == 1


async def test_empty_parts_are_ignored(stores, monkeypatch):
    await stores.events.append([Event(type="other", time=ago(days=1), data={})] * 3)
    monkeypatch.setattr(batch, "EVENTS_PER_PART", 1)
    monkeypatch.setattr(
        batch, "_run_on_ray", lambda part, parts: iter([])
    )  # Ray Data leaves empty parts out
    assert (await jobs.materialize(Run(stores)))["rows"] == 0


async def test_the_parts_of_a_batch_cover_all_entities(stores, monkeypatch):
    for user in range(20):
        await boards(stores, str(user), ago(days=2), ago(days=3))
    monkeypatch.setattr(batch, "EVENTS_PER_PART", 10)
    monkeypatch.setattr(
        batch, "_run_on_ray", lambda part, parts: map(part, range(parts))
    )  # what Ray Data does, here
    assert (await jobs.materialize(Run(stores, views=["user_boards"])))["changed"] == 20
    assert [await online(stores, str(user)) for user in range(20)] == [2] * 20


async def test_a_backfill_writes_each_day_and_shows_progress(stores):
    await boards(stores, "1", *(ago(days=d, hours=1) for d in (1, 2, 3, 4)))
    run = Run(
        stores,
        start=ago(days=4).date().isoformat(),
        end=ago(days=2).date().isoformat(),
        views=["user_boards"],
    )
    result = await jobs.backfill(run)
    assert result["days"] == 3
    assert len({r["event_timestamp"] for r in await offline_rows(stores)}) == 3
    assert run.shown[0][:2] == (0, 1) and run.shown[-1][:2] == (1, 1) and len(run.shown) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"start": "x", "end": "2026-01-01"},
        {"start": "2026-01-02", "end": "2026-01-01"},
        {"start": "1900-01-01", "end": "2026-01-01"},
        {"start": "2026-01-01", "end": "2900-01-01"},
        {"start": "2890-01-01", "end": "2890-01-02"},
    ],
)
async def test_a_backfill_without_a_valid_range_is_refused(stores, arguments):
    with pytest.raises(Invalid):
        await jobs.backfill(Run(stores, **arguments))


async def test_windows_are_restored_from_the_archive_after_losing_redis(stores):
    events = [
        Event(type="item.viewed", time=ago(seconds=s), data={"user_id": "1", "board_id": f"b{s}"})
        for s in range(1, 40)
    ]
    await stores.events.append(events)
    today = datetime.now(UTC).date().isoformat()
    await jobs.backfill(Run(stores, start=today, end=today))
    found = await jobs.consistency(Run(stores, settle=0))
    assert found["checked"] > 0 and found["mismatches"] == []
    assert await online(stores, "1", "current_board") == "b1"


async def test_online_and_offline_agree_after_duplicates_disorder_and_lateness(stores):
    events = [
        Event(
            id=f"e{n}",
            type=t,
            time=ago(seconds=s),
            data={"user_id": str(n % 5), "board_id": f"b{n % 7}", "duration": n},
        )
        for n, (t, s) in enumerate(
            zip(
                ["item.viewed", "board.opened", "board.created", "session.ended"] * 30,
                range(0, 108_000, 900),
                strict=True,
            )
        )
    ]
    shuffled = events[::2] + events[::-3] + events
    await stores.events.append(shuffled)
    for i in range(0, len(shuffled), 17):
        await ingest_events(stores.online, REGISTRY, shuffled[i : i + 17])
    await jobs.materialize(Run(stores))
    found = await jobs.consistency(Run(stores, settle=0))
    assert found["mismatches"] == []
    assert found["checked"] == 5 * 7


async def test_a_wrong_value_is_found(stores):
    await boards(stores, "1", ago(days=1))
    await jobs.materialize(Run(stores))
    now = int(datetime.now(UTC).timestamp() * 1e6)
    wrong = pack(BOARDS.identity(BOARDS.features[0]), "int64", 77, now, now)
    await stores.online.hset(keys.values("user", "1"), "boards_30d", wrong)
    found = await jobs.consistency(Run(stores, sample=10, settle=0))
    assert [
        (m["feature"], m["online"], m["offline"])
        for m in found["mismatches"]
        if m["view"] == "user_boards"
    ] == [("boards_30d", 77, "1")]


async def test_a_value_the_batch_missed_is_found_in_the_log(stores):
    await boards(stores, "1", ago(days=1))
    await boards(stores, "2", ago(days=1))
    await jobs.materialize(Run(stores))
    kept = await offline.read_range(stores.lake, BOARDS, None, None)
    await stores.lake.delete(
        offline.table_name(BOARDS)
    )  # as if the run had missed a user, online and offline alike
    await stores.online.delete(keys.values("user", "2"))
    kept = kept.filter(pc.equal(kept["entity"], "1"))
    await offline.append_rows(stores.lake, BOARDS, kept)
    await stores.events.append(
        [Event(type="item.viewed", time=ago(seconds=9), data={"user_id": "2"})]
    )
    await jobs.backfill(
        Run(
            stores,
            start=ago().date().isoformat(),
            end=ago().date().isoformat(),
            views=["user_activity"],
        )
    )
    found = [
        m
        for m in (await jobs.consistency(Run(stores, settle=0)))["mismatches"]
        if m["view"] == "user_boards"
    ]
    assert [(m["entity"], m["online"], m["log"]) for m in found] == [("2", None, "1")]


async def test_an_event_after_the_batch_is_no_mismatch(stores):
    await boards(stores, "1", ago(days=1))
    await jobs.materialize(Run(stores))
    await anyio.sleep(0.005)  # the log counts in milliseconds
    await boards(stores, "1", ago(days=2))
    assert (await jobs.consistency(Run(stores, settle=0)))["mismatches"] == []


async def test_events_ahead_of_the_clock_are_no_mismatch(stores):
    events = [
        Event(type="item.viewed", time=ago(seconds=s), data={"user_id": "1", "board_id": f"b{s}"})
        for s in (10, -60, -4000)
    ]
    await stores.events.append(events)
    await ingest_events(stores.online, REGISTRY, events)
    assert (await jobs.consistency(Run(stores, settle=0)))["mismatches"] == []


async def test_a_changed_stream_view_is_filled_from_the_archive(stores):
    def view(*features: Feature) -> Registry:
        return Registry(
            (
                View(
                    "spending",
                    "user",
                    "user_id",
                    "stream",
                    features,
                    None,
                    ("paid",),
                    ("data.user_id",),
                ),
            )
        )

    total, kinds = (
        Feature("total", "float64", "sum", "amount", 3600),
        Feature("kinds", "int64", "count_distinct", "kind", 3600),
    )
    old, new = view(total), view(kinds, total)
    events = [
        Event(
            type="paid",
            time=ago(seconds=n),
            data={"user_id": "1", "amount": n, "kind": f"k{n % 3}"},
        )
        for n in range(1, 11)
    ]
    await stores.events.append(events)
    await Catalog().replace(stores.online._tenant, stores.online, old)
    await ingest_events(stores.online, old, events[:7])
    await Catalog().replace(stores.online._tenant, stores.online, new)
    await ingest_events(stores.online, new, events[5:])
    plan = ReadPlan("user", new.resolve("user", ["total", "kinds"]))

    async def served() -> list:
        now = int(datetime.now(UTC).timestamp() * 1e6)
        return [json.loads(a.json) for a in (await read_values(stores.online, plan, ["1"], now))[0]]

    assert (await served())[0] == 55
    await jobs.materialize(Run(stores))
    assert await served() == [55, 3]
    assert (await jobs.consistency(Run(stores, settle=0)))["mismatches"] == []


async def test_a_reused_name_does_not_find_values_of_another_type(stores):
    def view(dtype: str) -> View:
        return View("scores", "user", "user_id", "plain", (Feature("n", dtype),))

    t = from_micros(1_763_900_000_000_000)
    entity_rows = pa.table({"entity": ["1"], "at": pa.array([t], pa.timestamp("us", "UTC"))})

    async def value(dtype: str) -> Any:
        query = await plan_query(stores, [(view(dtype), view(dtype).features[0])], entity_rows)
        return query.run()["n"].to_pylist()[0]

    async def append(dtype: str, n: Any) -> None:
        row = {"entity": "1", "event_timestamp": t, "created": t, "n": n}
        rows = pa.Table.from_pylist([row], offline_schema(view(dtype)))
        await offline.append_rows(stores.lake, view(dtype), rows)

    await append("string", "many")
    assert (await value("int64"), await value("string")) == (None, "many")
    await append("int64", 7)
    assert await value("int64") == 7


async def test_names_may_differ_in_upper_and_lower_case_only(stores):
    view = View(
        "scores", "user", "user_id", "plain", (Feature("n", "int64"), Feature("N", "int64"))
    )
    t = from_micros(1_763_900_000_000_000)
    row = {"entity": "1", "event_timestamp": t, "created": t, "n": 1, "N": 2}
    await offline.append_rows(stores.lake, view, pa.Table.from_pylist([row], offline_schema(view)))
    assert await offline_rows(stores, view) == [row]


async def test_watching_publishes_metrics_and_feeds_freshness(stores):
    await boards(stores, "1", ago(days=2), ago(days=10))
    await jobs.materialize(Run(stores, date=ago(days=8).date().isoformat()))
    await jobs.materialize(Run(stores))
    await jobs.watch(Run(stores))
    points = [e.data async for _, e in stores.events.read(types=["metric"])]
    names = {(p["metric"], p["labels"].get("view")) for p in points}
    assert {
        ("features.age_seconds", "user_boards"),
        ("features.null_share", "user_boards"),
        ("features.psi", "user_boards"),
    } <= names
    assert all(isinstance(p["value"], int | float) for p in points)


async def test_the_batch_clears_events_that_came_too_late(stores):
    events = [Event(type="item.viewed", time=ago(days=3), data={"user_id": "1"})]
    await stores.events.append(events)
    await ingest_events(stores.online, REGISTRY, events)
    assert await stores.online.hlen(keys.late_events("user_activity")) == 1
    await jobs.materialize(Run(stores))
    assert await stores.online.hlen(keys.late_events("user_activity")) == 0
    assert await stores.online.hget(keys.CORRECTED, "user_activity") == b"1"


async def test_an_uploaded_data_set_is_joined_in_pieces(stores):
    await boards(stores, "1", ago(days=2))
    await jobs.materialize(Run(stores, date=ago(days=1).date().isoformat()))
    times = pa.array([datetime.now(UTC)] * 2, pa.timestamp("us", "UTC"))
    dataset = Dataset("mine")
    await dataset.add_rows(stores.lake, pa.table({"entity": ["1", "2"], "at": times}))
    run = Run(stores, dataset="mine", features=["boards_30d", "actions"])
    for _ in range(2):  # a second run replaces the answer of the first
        assert (await jobs.historical(run))["rows"] == 2
    got = (await dataset.result_files(stores.lake)).dataset().to_table()
    assert got.column_names == ["user_id", "event_timestamp", "boards_30d", "actions"]
    assert got["boards_30d"].to_pylist() == [1, None]
    assert await dataset.delete(stores.lake) == 2


async def test_a_join_as_of_a_time_is_for_every_entity(stores):
    await boards(stores, "1", ago(days=2))
    await boards(stores, "2", ago(days=1))
    await jobs.materialize(Run(stores, date=ago(days=1).date().isoformat()))
    run = Run(stores, dataset="mine", features=["boards_30d"], as_of=datetime.now(UTC).isoformat())
    for _ in range(2):
        assert (await jobs.historical(run))["rows"] == 2
    got = (await Dataset("mine").result_files(stores.lake)).dataset().to_table().sort_by("user_id")
    assert (got["user_id"].to_pylist(), got["boards_30d"].to_pylist()) == (["1", "2"], [1, 1])
    with pytest.raises(Invalid, match=r"as_of.*no zone"):
        await jobs.historical(
            Run(stores, dataset="mine", features=["boards_30d"], as_of="2026-11-01T00:00:00")
        )


@pytest.mark.parametrize(
    "arguments",
    [{}, {"dataset": "../x", "features": ["actions"]}, {"dataset": "x", "features": ["ghost"]}],
)
async def test_an_invalid_join_is_refused(stores, arguments):
    with pytest.raises(ValueError if "/" in str(arguments) else Invalid):
        await jobs.historical(Run(stores, **arguments))


async def test_the_parts_of_a_join_cover_all_rows(stores):
    view = View("scores", "user", "user_id", "plain", (Feature("n", "int64"),))
    times = [from_micros(1_763_900_000_000_000 + k * 1_000_000) for k in range(50)]
    rows = pa.Table.from_pylist(
        [
            {"entity": f"u{k % 7}", "event_timestamp": t, "created": t, "n": k}
            for k, t in enumerate(times)
        ],
        offline_schema(view),
    )
    await offline.append_rows(stores.lake, view, rows)
    entity_rows = pa.table(
        {
            "entity": [f"u{k % 9}" for k in range(40)],
            "at": pa.array(times[:40], pa.timestamp("us", "UTC")),
        }
    )
    query = await plan_query(stores, [(view, view.features[0])], entity_rows)
    assert replace(query, parts=5).run().equals(query.run())


async def test_an_older_batch_does_not_replace_newer_values(stores):
    await boards(stores, "1", ago(days=2))
    await jobs.materialize(Run(stores))
    value = await stores.online.hget(keys.values("user", "1"), "boards_30d")
    await batch.compute_view(stores, BOARDS, ago(days=1))
    assert await stores.online.hget(keys.values("user", "1"), "boards_30d") == value


async def test_tenants_own_definitions_replace_the_shared_ones(stores):
    catalog = Catalog()
    mine = Registry((View("mine", "user", "user_id", "plain", (Feature("x", "int64"),)),))
    assert await catalog.registry("t", stores.online) == REGISTRY
    assert (await catalog.replace("t", stores.online, mine))["new"] == ["mine:x"]
    assert await catalog.registry("t", stores.online) == mine


async def test_events_at_the_ends_of_the_calendar_fail_no_job(stores):
    end = datetime.max.replace(tzinfo=UTC)
    start = datetime.min.replace(tzinfo=UTC)
    for kind in ("board.created", "item.viewed"):
        events = [
            Event(type=kind, time=t, data={"user_id": u})
            for u, t in (("1", end), ("2", start), ("1", ago(days=1)))
        ]
        await stores.events.append(events)
        await ingest_events(stores.online, REGISTRY, events)
    today = datetime.now(UTC).date().isoformat()
    await jobs.materialize(Run(stores))
    await jobs.backfill(Run(stores, start=today, end=today))
    assert (await jobs.consistency(Run(stores, settle=0.0)))["mismatches"] == []
    await jobs.watch(Run(stores))
    assert await online(stores, "1") == 1
