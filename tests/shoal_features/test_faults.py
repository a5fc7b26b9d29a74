"""Failing tenants, manual runs, and definitions that must be refused."""

import io
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from shoal import Event, InternalError, Invalid, NotFound
from shoal_features import batch, commands, jobs, keys, offline
from shoal_features.aggregation import lookback_seconds
from shoal_features.catalog import Catalog
from shoal_features.datasets import Dataset
from shoal_features.errors import RegistryError
from shoal_features.handlers.requests import PARQUET
from shoal_features.online import ReadPlan, read_values
from shoal_features.registry import Registry
from shoal_features.rows import parse_rows
from shoal_features.views import Feature, View

from .test_jobs import Run, ago, boards, online
from .test_routes import serve

pytestmark = pytest.mark.anyio

DAY = 86_400
COUNT = Feature("n", "int64", "count", "", 3600)
TIME = pa.timestamp("us", "UTC")


def arguments_of(job: str) -> dict:
    """What a job needs to do a little."""
    today = datetime.now(UTC).date().isoformat()
    arguments = {"backfill": {"start": today, "end": today}, "consistency": {"settle": 0}}
    return arguments.get(job, {})


class Cancelled(Exception):
    """Stands for the platform's error, which every `progress` raises once cancelled."""


def view(
    name: str = "v",
    *features: Feature,
    kind: str = "batch",
    ttl: int | None = None,
    entity: str = "user",
    key: str = "user_id",
) -> View:
    types = () if kind == "plain" else ("a.*",)
    return View(name, entity, key, kind, features or (COUNT,), ttl, types, ("data.user_id",))


def plain(name: str, entity: str, key: str) -> View:
    return view(name, Feature("n", "int64"), kind="plain", entity=entity, key=key)


async def define(stores, *views: View) -> Registry:
    registry = Registry(views)
    await Catalog().replace(stores.online._tenant, stores.online, registry)
    return registry


@pytest.mark.parametrize(
    "fault",
    [NotFound("no such thing"), OverflowError("date value out of range"), RuntimeError("odd")],
)
@pytest.mark.parametrize("job", ["materialize", "backfill", "consistency", "watch"])
async def test_a_failing_tenant_does_not_stop_the_others(open_tenant, monkeypatch, job, fault):
    first, second, third = tenants = [open_tenant() for _ in range(3)]
    for stores in tenants:
        await boards(stores, "1", ago(days=1))
    registry, worked = Catalog.registry, []

    async def known(self, tenant, online):
        if online is first.online:
            raise fault
        worked.append(tenant)
        return await registry(self, tenant, online)

    monkeypatch.setattr(Catalog, "registry", known)
    run = Run(*tenants, **arguments_of(job))
    with pytest.raises(
        InternalError,
        match=f"1 of 3 tenants failed \\({first.online._tenant}\\).*{type(fault).__name__}",
    ):
        await getattr(jobs, job)(run)
    assert worked == [second.online._tenant, third.online._tenant]


@pytest.mark.parametrize("job", ["materialize", "backfill", "consistency", "watch"])
async def test_a_cancelled_run_ends_as_cancelled(open_tenant, job):
    run = Run(open_tenant(), open_tenant(), **arguments_of(job))
    calls: list[tuple] = []

    def progress(*shown) -> None:
        calls.append(shown)
        raise Cancelled

    run.progress = progress  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        await getattr(jobs, job)(run)
    assert max(done for done, *_ in calls) <= 1  # not tried on the second tenant


@pytest.mark.parametrize("kind", ["batch", "stream"])
@pytest.mark.parametrize("job", ["materialize", "backfill", "consistency", "watch"])
async def test_a_failing_view_does_not_stop_the_others(stores, job, kind):
    broken = view("broken", kind=kind)
    later = view("later", replace(COUNT, name="later_n"))
    live = view("live", replace(COUNT, name="live_n"), kind="stream")
    registry = await define(stores, broken, later, live)
    await stores.events.append([Event(type="a.x", time=ago(seconds=9), data={"user_id": "1"})])
    if job == "consistency":
        await jobs.materialize(Run(stores))
    if kind == "batch":  # a file that is no Parquet
        table, today = offline.table_name(broken), datetime.now(UTC).date()
        await stores.lake.append(table, pa.table({"entity": ["1"]}), today)
        (path,) = (await stores.lake.files(table))[-1:]
        filesystem = stores.lake.filesystem()
        with filesystem.open_output_stream(path) as file:
            file.write(b"not Parquet")
    else:  # a key of another type than the scripts expect
        place = keys.window("user", "1", "broken")[0]
        await stores.online.delete(place)
        await stores.online.set(place, "x")
    run = Run(stores, **arguments_of(job))
    if (job, kind) == ("watch", "stream"):  # it measures streams by the archive alone
        await jobs.watch(run)
    else:
        with pytest.raises(InternalError, match=r"1 of 3 views failed \(broken\), the first with"):
            await getattr(jobs, job)(run)
    if job in ("materialize", "backfill"):
        now = int(datetime.now(UTC).timestamp() * 1e6)
        plan = ReadPlan("user", registry.resolve("user", ["later_n", "live_n"]))
        assert [v.json for v in (await read_values(stores.online, plan, ["1"], now))[0]] == [
            b"1",
            b"1",
        ]
    if job == "watch":
        assert set(await stores.online.hkeys(keys.PROFILES)) >= {b"later", b"live"}
    if job == "consistency":
        points = [e.data async for _, e in stores.events.read("0") if e.type == "metric"]
        assert [p["value"] for p in points if p["metric"] == "features.mismatches"] == [0]


@pytest.mark.parametrize("arguments", [{}, {"views": ["user_boards"]}, {"date": ""}])
async def test_only_a_full_nightly_run_is_recorded_as_one(stores, arguments):
    due = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0)
    await jobs.materialize(Run(stores, due=due - timedelta(days=1)))
    before = await stores.online.get(keys.LAST_NIGHTLY_RUN)
    await anyio.sleep(0.005)
    await jobs.materialize(
        Run(stores, **{n: v or ago(days=3).date().isoformat() for n, v in arguments.items()})
    )
    await jobs.materialize(Run(stores, due=due, views=["user_boards"]))
    assert await stores.online.get(keys.LAST_NIGHTLY_RUN) == before
    await jobs.materialize(Run(stores, due=due))
    assert int(await stores.online.get(keys.LAST_NIGHTLY_RUN)) > int(before)


async def test_a_future_date_is_refused_and_today_means_now(stores):
    await boards(stores, "1", ago(seconds=5))
    with pytest.raises(Invalid, match="has not begun"):
        await jobs.materialize(Run(stores, date=ago(days=-2).date().isoformat()))
    await jobs.materialize(Run(stores, date=datetime.now(UTC).date().isoformat()))
    await boards(stores, "1", ago(seconds=1))
    await jobs.materialize(Run(stores))
    assert await online(stores, "1") == 2


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        *(
            (view("v", replace(COUNT, name=n)), "cannot name a feature")
            for n in (
                "entity",
                "at",
                "event_timestamp",
                "created",
                "row",
                "date",
                "Entity",
                "user_id",
            )
        ),
        (view("v", COUNT, replace(COUNT, name="N")), "only by upper and lower case"),
        (view("v", entity="features"), "cannot name an entity type"),
        *((view("v", ttl=t), "TTL") for t in (-5, 10**12)),
        *(
            (view(n), "must not begin with joined_")
            for n in ("joined_teams", "asked_x", "Joined-x")
        ),
    ],
)
async def test_invalid_definitions_are_refused_and_the_old_ones_stay(stores, invalid, message):
    await define(stores, view("old"))
    async with serve(stores) as http:
        answer = await http.put("/features/definitions", json={"views": [asdict(invalid)]})
        assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.text
        assert [v["name"] for v in (await http.get("/features/views")).json()["views"]] == ["old"]
    assert Registry.from_dict({"views": [asdict(invalid)]})  # one from before is still read


async def test_a_ttl_of_zero_means_no_limit(stores):
    assert Registry.from_dict({"views": [asdict(view(ttl=0)) | {"ttl": 0}]}).view("v").ttl is None
    assert view(ttl=0) == view()
    for ttl in (None, 1, 100 * 365 * DAY):
        assert Registry((view(ttl=ttl),)).replacement_errors(Registry()) == []


def test_check_reports_what_a_registration_would_refuse(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "shoal_features.definitions.load_definitions", lambda _: Registry((view("joined_x"),))
    )
    found = CliRunner().invoke(commands.commands(), ["apply", str(tmp_path / "f.py"), "--check"])
    assert isinstance(found.exception, Invalid) and "joined_" in str(found.exception)


async def test_entity_types_may_share_a_join_key(stores):
    await define(stores, plain("u", "user", "id"), plain("b", "board", "id"))
    at = ago(seconds=9).isoformat()
    async with serve(stores) as http:
        for name, n in (("u", 111), ("b", 222)):
            rows = [{"id": "5", "event_timestamp": at, "n": n}]
            await http.post(
                f"/features/views/{name}/rows", json={"rows": rows, "to": "online_and_offline"}
            )

        async def fetch_value(features: str, column: str = "id", **more) -> object:
            body = {
                "entities": [{column: "5", "event_timestamp": ago().isoformat()}],
                "features": [features],
                **more,
            }
            answer = await http.post("/features/historical", json=body)
            return (
                answer.json()["rows"][0]["n"]
                if answer.status_code == 200
                else answer.json()["errors"][0]["location"]
            )

        assert [await fetch_value("n", entity=e) for e in ("user", "board")] == [111, 222]
        assert [await fetch_value(f) for f in ("u:n", "b:n")] == [111, 222]
        assert await fetch_value("n", column="board") == 222
        assert [
            await fetch_value("n"),
            await fetch_value("n", entity="ghost"),
            await fetch_value("n", entity=[1]),
        ] == ["entity"] * 3
        for empty in ({"entity": "ghost"}, {"entity": ["user"], "as_of": at, "entities": None}):
            answer = await http.post(
                "/features/historical", json={"entities": [], "features": ["n"], **empty}
            )
            assert answer.status_code == 422


async def test_a_data_set_keeps_the_entity_type_of_its_rows(stores):
    await define(stores, plain("u", "user", "user_id"), plain("b", "board", "board_id"))
    async with serve(stores) as http:
        rows = [{"board_id": "5", "event_timestamp": ago(seconds=9).isoformat(), "n": 222}]
        await http.post("/features/views/b/rows", json={"rows": rows, "to": "offline"})
        for column in ("board_id", "user_id"):
            sink = io.BytesIO()
            pq.write_table(
                pa.table({column: ["5"], "event_timestamp": pa.array([ago()], TIME)}), sink
            )
            headers = {"content-type": PARQUET}
            assert (
                await http.post("/features/datasets/mine", content=sink.getvalue(), headers=headers)
            ).status_code == 200
            if column == "board_id":
                assert (await jobs.historical(Run(stores, dataset="mine", features=["n"])))[
                    "rows"
                ] == 1
                assert (await Dataset("mine").result_files(stores.lake)).dataset().to_table()[
                    "n"
                ].to_pylist() == [222]
    with pytest.raises(Invalid, match="several entity types: board, user"):
        await jobs.historical(Run(stores, dataset="mine", features=["n"]))


def test_the_command_uploads_rows_for_its_entity_type(monkeypatch, tmp_path):
    said: dict = {}
    client = SimpleNamespace(
        features=SimpleNamespace(
            upload=lambda **a: said.update(names=pq.read_table(io.BytesIO(a["body"])).column_names)
        )
    )

    def joined(tenant, output, arguments, upload) -> None:
        upload(client, "x")
        said.update(arguments)

    monkeypatch.setattr(commands, "_join", joined)
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ["5"], "event_timestamp": pa.array([ago()], TIME)}), file)
    line = [
        "historical",
        str(file),
        str(tmp_path / "out"),
        "--features",
        "n",
        "--tenant",
        "t",
        "--entity",
        "board",
    ]
    assert CliRunner().invoke(commands.commands(), line).exit_code == 0
    assert (said["names"], said["entity"]) == (["board", "event_timestamp"], "board")


async def test_a_batch_last_without_a_window_looks_back_a_year(stores):
    ever = Feature("plan", "string", "last", "plan")
    one = view("v", ever, COUNT)
    registry = await define(stores, one)
    await stores.events.append(
        [
            Event(type="a.x", time=ago(days=20), data={"user_id": "1", "plan": "pro"}),
            Event(type="a.x", time=ago(seconds=9), data={"user_id": "1"}),
        ]
    )
    await batch.compute_view(stores, one, datetime.now(UTC))
    found = (
        await read_values(
            stores.online,
            ReadPlan("user", registry.resolve("user", ["plan", "n"])),
            ["1"],
            int(datetime.now(UTC).timestamp() * 1e6),
        )
    )[0]
    assert [json.loads(a.json) for a in found] == ["pro", 1]
    assert lookback_seconds(one) == (366 + 7) * DAY
    assert (
        view("s", ever, COUNT, kind="stream").retention == 3600
    )  # its events need not be kept for a value that is


async def test_all_faults_of_a_registry_are_reported():
    found = Registry((view("joined_x", replace(COUNT, name="row"), ttl=-1),)).replacement_errors(
        Registry()
    )
    assert len(found) == 3
    with pytest.raises(RegistryError):
        Registry((view("a b"),))


def test_an_offline_row_must_give_every_feature() -> None:
    """What it left out would be null in history, and online after a backfill."""
    view = SimpleNamespace(
        name="teams",
        entity="team",
        join_key="team",
        features=[SimpleNamespace(name=n, dtype="string") for n in ("plan", "score")],
    )
    part = {"team": "a", "event_timestamp": "2026-11-01T00:00:00Z", "plan": "pro"}
    assert parse_rows(view, [part]).rejected == {}  # type: ignore[arg-type]
    batch = parse_rows(view, [part, {**part, "score": None}], complete=True)  # type: ignore[arg-type]
    assert list(batch.rejected) == [0] and "it has no score" in batch.rejected[0]
    assert list(batch.accepted) == [1]
