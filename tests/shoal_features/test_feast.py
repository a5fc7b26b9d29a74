"""Feast's own client on Shoal, over HTTP and Redis.

The cases are those of Feast's universal tests that apply.
"""

import asyncio
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import uvicorn
from fastapi import FastAPI, Request

from shoal import Event, Role, TenantContext
from shoal.contract.rights import SERVICE_RIGHTS
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights
from shoal_features import jobs
from shoal_features.ingest import ingest_events
from shoal_features.routes import routes

from .shared import REGISTRY
from .test_jobs import Run

feast = pytest.importorskip("feast")
pytestmark = pytest.mark.filterwarnings("ignore")

from feast import (  # noqa: E402
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RepoConfig,
    ValueType,
)
from feast.data_source import PushMode  # noqa: E402
from feast.types import Array, Bool, Bytes, Float64, Int64, String, UnixTimestamp  # noqa: E402

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Server:
    """Shoal's feature routes on a port, as the router serves them for one tenant."""

    def __init__(self, stores) -> None:
        self.stores, self.tenant = stores, stores.online._tenant
        router = routes(None)  # type: ignore[arg-type]
        enforce_rights(router)
        app = FastAPI()
        app.include_router(router, prefix="/features")
        install_problem_handlers(app)

        @app.post("/platform/jobs/features.backfill/runs")
        async def run(request: Request) -> dict:
            try:
                await jobs.backfill(Run(stores, **(await request.json())["arguments"]))
            except Exception as error:
                return {"id": "r", "state": "failed", "error": str(error)}
            return {"id": "r", "state": "succeeded"}

        rights = SERVICE_RIGHTS[Role.editor]
        context = TenantContext(
            self.tenant, Role.editor, rights, None, None, "r", stores, None, None, None
        )  # type: ignore[arg-type]

        async def router_stand_in(scope, receive, send):
            await app(scope | {"shoal.context": context}, receive, send)

        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(router_stand_in, port=self.port, log_level="error", lifespan="off")
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture
def shoal(open_tenant):
    with Server(open_tenant()) as server:
        yield server


@pytest.fixture
def store(shoal, tmp_path) -> FeatureStore:
    where = {"url": f"http://127.0.0.1:{shoal.port}", "key": "shoal_id_secret"}
    return FeatureStore(
        config=RepoConfig(
            project="shoal",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "shoal_features.feast_online.ShoalOnlineStore", **where},
            offline_store={"type": "shoal_features.feast_offline.ShoalOfflineStore", **where},
            batch_engine={"type": "shoal_features.feast_engine.ShoalComputeEngine"},
            entity_key_serialization_version=3,
        )
    )


driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
source = FileSource(
    name="stats",
    path="shoal://views/stats",
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
)
stats = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(days=1),
    schema=[
        Field(name="driver_id", dtype=Int64),
        Field(name="rate", dtype=Float64),
        Field(name="trips", dtype=Int64),
        Field(name="city", dtype=String),
        Field(name="active", dtype=Bool),
        Field(name="since", dtype=UnixTimestamp),
        Field(name="last_five", dtype=Array(Int64)),
    ],
    source=PushSource(name="stats_push", batch_source=source),
)
profile = FeatureService(name="profile", features=[stats[["rate", "city"]]])
ALL = [f"driver_stats:{n}" for n in ("rate", "trips", "city", "active", "since", "last_five")]


def frame(**columns) -> pd.DataFrame:
    n = len(columns["driver_id"])
    base = {
        "event_timestamp": [now() - HOUR] * n,
        "created": [now()] * n,
        "rate": [0.5] * n,
        "trips": [2**53 + 1] * n,
        "city": ["é"] * n,
        "active": [True] * n,
        "since": [datetime(2020, 1, 2, tzinfo=UTC)] * n,
        "last_five": [[1, 2, 3]] * n,
    }
    return pd.DataFrame(base | columns)


@pytest.fixture
def applied(store) -> FeatureStore:
    store.apply([driver, stats, profile])
    return store


def test_feast_apply_adds_views_to_those_registered(applied, shoal):
    from shoal_features.feast_http import call

    views = call(applied.config.online_store, "GET", "/features/views").json()["views"]
    assert {"user_activity", "driver_stats"} <= {v["name"] for v in views}
    assert next(v for v in views if v["name"] == "driver_stats")["kind"] == "plain"


def test_every_type_survives_a_round_trip(applied):
    applied.push("stats_push", frame(driver_id=[1, 2]), to=PushMode.ONLINE)
    got = applied.get_online_features(
        ALL, [{"driver_id": 1}, {"driver_id": 2}, {"driver_id": 3}]
    ).to_dict()
    assert got["trips"] == [2**53 + 1, 2**53 + 1, None]
    assert (
        got["rate"] == [0.5, 0.5, None]
        and got["city"] == ["é", "é", None]
        and got["active"] == [True, True, None]
    )
    assert [s and s.timestamp() for s in got["since"]] == [
        datetime(2020, 1, 2, tzinfo=UTC).timestamp()
    ] * 2 + [None]
    assert [v and list(v) for v in got["last_five"]] == [[1, 2, 3], [1, 2, 3], None]
    assert got["driver_id"] == [1, 2, 3]


def test_a_feature_service_and_full_names(applied):
    applied.push("stats_push", frame(driver_id=[1]))
    got = applied.get_online_features(
        applied.get_feature_service("profile"), [{"driver_id": 1}], full_feature_names=True
    ).to_dict()
    assert got == {"driver_id": [1], "driver_stats__rate": [0.5], "driver_stats__city": ["é"]}


def test_an_older_push_does_not_replace_a_newer_one(applied):
    applied.push("stats_push", frame(driver_id=[1], rate=[0.9]))
    applied.push("stats_push", frame(driver_id=[1], rate=[0.1], event_timestamp=[now() - 2 * HOUR]))
    assert applied.get_online_features(["driver_stats:rate"], [{"driver_id": 1}]).to_dict()[
        "rate"
    ] == [0.9]


def test_a_value_past_its_ttl_is_none(applied):
    applied.push("stats_push", frame(driver_id=[1], event_timestamp=[now() - 25 * HOUR]))
    assert applied.get_online_features(["driver_stats:rate"], [{"driver_id": 1}]).to_dict()[
        "rate"
    ] == [None]


def test_values_are_written_directly_online_and_offline(applied):
    rows = frame(driver_id=[1, 2], rate=[0.1, 0.2])
    applied.write_to_online_store("driver_stats", rows)
    applied.write_to_offline_store("driver_stats", rows)
    assert applied.get_online_features(["driver_stats:rate"], [{"driver_id": 2}]).to_dict()[
        "rate"
    ] == [0.2]
    entity_rows = pd.DataFrame({"driver_id": [1], "event_timestamp": [now()]})
    assert applied.get_historical_features(entity_rows, ["driver_stats:rate"]).to_df()[
        "rate"
    ].tolist() == [0.1]


def test_nulls_stay_nulls_online_and_offline(applied):
    rows = frame(driver_id=[1, 2], rate=[None, 0.2], city=["x", None])
    applied.push("stats_push", rows, to=PushMode.ONLINE_AND_OFFLINE)
    got = applied.get_online_features(
        ["driver_stats:rate", "driver_stats:city"], [{"driver_id": 1}, {"driver_id": 2}]
    ).to_dict()
    assert (got["rate"], got["city"]) == ([None, 0.2], ["x", None])
    entity_rows = pd.DataFrame({"driver_id": [1, 2], "event_timestamp": [now()] * 2})
    table = applied.get_historical_features(
        entity_rows, ["driver_stats:rate", "driver_stats:city"]
    ).to_arrow()
    assert (table["rate"].to_pylist(), table["city"].to_pylist()) == ([None, 0.2], ["x", None])


def test_many_entities_keep_their_order(applied):
    ids = list(range(200))
    applied.push("stats_push", frame(driver_id=ids, trips=[i * 2 for i in ids]))
    entity_rows = [{"driver_id": i} for i in reversed(ids)]
    assert applied.get_online_features(["driver_stats:trips"], entity_rows).to_dict()["trips"] == [
        i * 2 for i in reversed(ids)
    ]


def test_an_unknown_feature_is_refused(applied):
    from feast.errors import FeastError

    with pytest.raises((FeastError, KeyError, ValueError)):
        applied.get_online_features(["driver_stats:ghost"], [{"driver_id": 1}]).to_dict()


def test_reading_asynchronously_is_the_same(applied):
    applied.push("stats_push", frame(driver_id=[1]))
    got = asyncio.run(
        applied.get_online_features_async(["driver_stats:rate"], [{"driver_id": 1}])
    ).to_dict()
    assert got["rate"] == [0.5]


def test_history_is_point_in_time_correct(applied):
    t = now() - 10 * HOUR
    rows = frame(
        driver_id=[1, 1, 1, 2],
        rate=[0.1, 0.2, 0.3, 0.9],
        event_timestamp=[t, t + HOUR, t + HOUR, t + 2 * HOUR],
    )
    rows["created"] = [t, t + 2 * HOUR, t + 3 * HOUR, t]
    applied.push("stats_push", rows, to=PushMode.OFFLINE)
    entity_rows = pd.DataFrame(
        {
            "driver_id": [1, 1, 1, 2, 2, 3],
            "event_timestamp": [t - HOUR, t, t + HOUR, t + HOUR, t + 26 * HOUR, t],
            "label": list("abcdef"),
        }
    )
    got = applied.get_historical_features(
        entity_rows, ["driver_stats:rate", "driver_stats:city"]
    ).to_df()
    assert list(got.columns) == ["driver_id", "event_timestamp", "label", "rate", "city"]
    assert got["label"].tolist() == list("abcdef")
    assert got["rate"].astype(object).where(got["rate"].notna(), None).tolist() == [
        None,
        0.1,
        0.3,
        None,
        0.9,
        None,
    ]


def test_history_can_be_filtered_by_created_time(applied):
    t = now() - 10 * HOUR
    rows = frame(driver_id=[1, 1], rate=[0.1, 0.2], event_timestamp=[t, t])
    rows["created"] = [t, t + 5 * HOUR]
    applied.push("stats_push", rows, to=PushMode.OFFLINE)
    entity_rows = pd.DataFrame({"driver_id": [1, 1], "event_timestamp": [t + HOUR, t + 6 * HOUR]})
    got = applied.get_historical_features(
        entity_rows, ["driver_stats:rate"], filter_by_created_timestamp=True
    ).to_df()
    assert got["rate"].tolist() == [0.1, 0.2]


def test_history_of_no_rows_and_full_names(applied):
    entity_rows = pd.DataFrame(
        {
            "driver_id": pd.Series([], dtype="int64"),
            "event_timestamp": pd.Series([], dtype="datetime64[ns, UTC]"),
        }
    )
    got = applied.get_historical_features(
        entity_rows, ["driver_stats:rate"], full_feature_names=True
    ).to_df()
    assert (
        list(got.columns) == ["driver_id", "event_timestamp", "driver_stats__rate"]
        and len(got) == 0
    )


def test_times_without_a_zone_are_utc(applied):
    applied.push("stats_push", frame(driver_id=[1]), to=PushMode.OFFLINE)
    entity_rows = pd.DataFrame({"driver_id": [1], "event_timestamp": [now().replace(tzinfo=None)]})
    assert applied.get_historical_features(entity_rows, ["driver_stats:trips"]).to_df()[
        "trips"
    ].tolist() == [2**53 + 1]


def test_nanoseconds_of_entity_rows_are_rounded_down(applied):
    at = pd.Timestamp(now() - HOUR).floor("us")
    row = frame(driver_id=[1], event_timestamp=[at + pd.Timedelta(microseconds=1)])
    applied.push("stats_push", row, to=PushMode.OFFLINE)
    times = [at + pd.Timedelta(nanoseconds=n) for n in (0, 999, 1_000, 1_999)]
    entity_rows = pd.DataFrame({"driver_id": [1] * 4, "event_timestamp": times})
    found = applied.get_historical_features(entity_rows, ["driver_stats:trips"]).to_df()
    assert found["trips"].isna().tolist() == [True, True, False, False]
    assert found["event_timestamp"].tolist() == times


@pytest.mark.parametrize("engine", ["shoal", "local"])
def test_materialize_writes_the_newest_offline_rows_online(shoal, store, engine):
    config = store.config.model_copy()
    if engine == "local":
        config.batch_engine_config = "local"
    store = FeatureStore(config=config)
    store.apply([driver, stats])
    rows = frame(
        driver_id=[1, 1, 2],
        rate=[0.1, 0.2, 0.3],
        event_timestamp=[now() - 3 * HOUR, now() - 2 * HOUR, now() - 2 * HOUR],
    )
    store.push("stats_push", rows, to=PushMode.OFFLINE)
    store.materialize(now() - 5 * HOUR, now(), ["driver_stats"])
    assert store.get_online_features(
        ["driver_stats:rate"], [{"driver_id": 1}, {"driver_id": 2}]
    ).to_dict()["rate"] == [0.2, 0.3]


def test_a_push_of_another_type_is_rejected_with_a_reason(applied):
    from shoal_features.feast_http import call

    answer = call(
        applied.config.online_store,
        "POST",
        "/features/views/driver_stats/rows",
        json={"rows": [{"driver_id": 1, "event_timestamp": now().isoformat(), "rate": "high"}]},
    )
    assert answer.json()["rejected"] == [{"index": 0, "error": "rate: 'high' is not a float64"}]


def test_the_sample_workspace_works_from_feast_with_a_tenant_key(shoal, store, workspace):
    module: dict = {}
    exec(workspace.read_text(), module)
    objects = [o for o in module.values() if isinstance(o, Entity | FeatureView | FeatureService)]
    store.apply(objects)
    events = [
        Event(
            type="board.created",
            time=now() - timedelta(days=d),
            data={"user_id": "123", "board_id": f"b{d}"},
        )
        for d in (0, 2, 40)
    ]

    async def feed() -> None:
        await shoal.stores.events.append(events)
        await ingest_events(shoal.stores.online, REGISTRY, events)
        from shoal.stores.connections import close_connections

        await close_connections()

    asyncio.run(feed())
    store.materialize(now() - timedelta(days=1), now(), ["user_boards"])
    features = ["user_boards:boards_30d", "user_activity:actions_5min", "user_place:current_board"]
    rows = [{"tenant_id": shoal.tenant, "user_id": "123"}]
    got = store.get_online_features(features, rows).to_dict()
    assert (got["boards_30d"], got["actions_5min"], got["current_board"]) == ([2], [1], ["b0"])
    entity_rows = pd.DataFrame(
        {
            "tenant_id": [shoal.tenant] * 2,
            "user_id": ["123"] * 2,
            "event_timestamp": [now(), now() - timedelta(days=1)],
        }
    )
    history = store.get_historical_features(
        entity_rows, ["user_activity:actions", "user_place:current_board"]
    ).to_df()
    assert history["actions"].tolist() == [1, 0] and history["current_board"].tolist() == [
        "b0",
        "b2",
    ]


def test_teardown_removes_no_values(applied):
    applied.push("stats_push", frame(driver_id=[1]))
    applied.teardown()
    applied.apply([driver, stats])
    assert applied.get_online_features(["driver_stats:rate"], [{"driver_id": 1}]).to_dict()[
        "rate"
    ] == [0.5]


blobs = FeatureView(
    name="blobs",
    entities=[driver],
    schema=[
        Field(name="raw", dtype=Bytes),
        Field(name="raws", dtype=Array(Bytes)),
        Field(name="times", dtype=Array(UnixTimestamp)),
        Field(name="rates", dtype=Array(Float64)),
    ],
    source=PushSource(
        name="blobs_push",
        batch_source=FileSource(name="b", path="shoal://b", timestamp_field="event_timestamp"),
    ),
)
TIMES = [datetime(2020, 1, 2, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=UTC)]


def blob_rows(rates) -> pd.DataFrame:
    columns = {"driver_id": [1, 2], "event_timestamp": [now() - HOUR] * 2}
    values = {"raw": [b"\xff\x00"] * 2, "raws": [[b"a", b"\xfe"]] * 2, "times": [TIMES] * 2}
    return pd.DataFrame({**columns, **values, "rates": [[1.0], rates]})


def test_bytes_and_lists_are_pushed_online_and_offline(store):
    store.apply([driver, blobs])
    store.push("blobs_push", blob_rows([2.0]), to=PushMode.ONLINE_AND_OFFLINE)
    names = [f"blobs:{n}" for n in ("raw", "raws", "times", "rates")]
    online = store.get_online_features(names, [{"driver_id": 2}]).to_dict()
    asked = pd.DataFrame({"driver_id": [2], "event_timestamp": [now()]})
    history = store.get_historical_features(asked, names).to_arrow().to_pylist()[0]
    assert (online["raw"], list(online["raws"][0])) == ([b"\xff\x00"], [b"a", b"\xfe"])
    assert (history["raw"], history["raws"]) == (b"\xff\x00", [b"a", b"\xfe"])
    assert [t.timestamp() for t in history["times"]] == [t.timestamp() for t in TIMES]


@pytest.mark.parametrize("to", [PushMode.ONLINE, PushMode.OFFLINE])
def test_an_infinite_number_names_its_row(store, to):
    store.apply([driver, blobs])
    with pytest.raises(ValueError, match="row 1: rates: inf"):
        store.push("blobs_push", blob_rows([2.0, float("inf")]), to=to)


def test_nan_in_a_list_stays_nan(store):
    store.apply([driver, blobs])
    store.push("blobs_push", blob_rows([2.0, float("nan")]), to=PushMode.ONLINE)
    rates = store.get_online_features(["blobs:rates"], [{"driver_id": 2}]).to_dict()["rates"][0]
    assert rates[0] == 2.0 and rates[1] != rates[1]


def test_the_tenants_entity_may_have_any_name(store, shoal):
    company = Entity(name="company", join_keys=["tenant_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="company_drivers",
        entities=[company, driver],
        schema=[
            Field(name="tenant_id", dtype=String),
            Field(name="driver_id", dtype=Int64),
            Field(name="stars", dtype=Int64),
        ],
        source=PushSource(name="stars_push", batch_source=source),
    )
    store.apply([company, driver, view])
    key = {"tenant_id": shoal.tenant, "driver_id": 7}
    rows = pd.DataFrame([{**key, "stars": 5, "event_timestamp": now(), "created": now()}])
    store.push("stars_push", rows, to=PushMode.ONLINE)
    got = store.get_online_features(["company_drivers:stars"], [key]).to_dict()
    assert got["stars"] == [5]


def test_a_view_without_an_entity_is_refused(store):
    view = FeatureView(
        name="nobody",
        entities=[],
        schema=[Field(name="n", dtype=Int64)],
        source=PushSource(name="nobody_push", batch_source=source),
    )
    with pytest.raises(ValueError, match=r"has one entity .* this one has none"):
        store.apply([view])


def test_pushing_works_outside_the_repositorys_folder(shoal, tmp_path, monkeypatch):
    where = f'url: "http://127.0.0.1:{shoal.port}", key: shoal_id_secret'
    repository, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    repository.mkdir()
    elsewhere.mkdir()
    (repository / "feature_store.yaml").write_text(
        f"""
project: shoal
provider: local
registry: registry.db
online_store: {{type: shoal_features.feast_online.ShoalOnlineStore, {where}}}
offline_store: {{type: shoal_features.feast_offline.ShoalOfflineStore, {where}}}
entity_key_serialization_version: 3
"""
    )
    monkeypatch.chdir(elsewhere)
    store = FeatureStore(repo_path=str(repository))
    store.apply([driver, stats])
    store.push("stats_push", frame(driver_id=[1]), to=PushMode.ONLINE_AND_OFFLINE)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("engine", ["shoal", "local"])
def test_materialize_loads_a_views_parquet_file(store, tmp_path, engine):
    if engine == "local":
        config = store.config.model_copy()
        config.batch_engine_config = "local"
        store = FeatureStore(config=config)
    t = now() - 10 * HOUR
    rows = frame(driver_id=[1, 1, 2], rate=[0.1, 0.2, 0.9])
    rows["event_timestamp"] = [t, t + HOUR, t + 2 * HOUR]
    rows.rename(columns={"rate": "conv_rate"}).to_parquet(tmp_path / "driver_stats.parquet")
    hourly = FeatureView(
        name="driver_hourly_stats",
        entities=[driver],
        ttl=timedelta(days=1),
        schema=[
            Field(name="rate", dtype=Float64),
            Field(name="trips", dtype=Int64),
            Field(name="last_five", dtype=Array(Int64)),
        ],
        source=FileSource(
            name="hourly",
            path=str(tmp_path / "driver_stats.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
            field_mapping={"conv_rate": "rate"},
        ),
    )
    names = [f"driver_hourly_stats:{n}" for n in ("rate", "trips", "last_five")]
    store.apply([driver, hourly])
    store.materialize(t, t + HOUR)
    got = store.get_online_features(names, [{"driver_id": 1}, {"driver_id": 2}]).to_dict()
    assert got["rate"] == [0.2, None]
    store.materialize_incremental(now())
    got = store.get_online_features(names, [{"driver_id": 1}, {"driver_id": 2}]).to_dict()
    assert got["rate"] == [0.2, 0.9]
    assert list(got["last_five"][0]) == [1, 2, 3]
    asked = pd.DataFrame({"driver_id": [1, 1], "event_timestamp": [t, t + 3 * HOUR]})
    assert store.get_historical_features(asked, names).to_df()["rate"].tolist() == [0.1, 0.2]


def test_services_are_registered_and_removed(shoal, store):
    from shoal_features.feast_http import call

    def registered() -> dict:
        return call(store.config.online_store, "GET", "/features/views").json()["services"]

    shared = registered()
    config = store.config.model_copy()
    config.registry_config = {
        "path": store.config.registry.path,
        "registry_store_type": "shoal_features.feast_registry.ShoalRegistryStore",
        "url": f"http://127.0.0.1:{shoal.port}",
        "key": "shoal_id_secret",
    }
    config._registry = None
    kept = FeatureStore(config=config)
    kept.apply([driver, stats, profile])
    assert registered() == shared | {"profile": ["driver_stats:rate", "driver_stats:city"]}
    kept.push("stats_push", frame(driver_id=[1]))
    answer = call(store.config.online_store, "GET", "/features?driver=1&features=profile").json()
    assert answer["features"] == {"rate": 0.5, "city": "é"}
    kept.apply([driver, stats], objects_to_delete=[profile], partial=False)
    assert registered() == shared
