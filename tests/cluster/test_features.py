"""The feature store, end to end on a cluster."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shoal import Forbidden, Invalid, NotFound
from shoal.testing import wait_until

pytestmark = pytest.mark.cluster


def events(
    user: str, *types: str, ago: timedelta = timedelta(seconds=1), **data: Any
) -> list[dict[str, Any]]:
    at = datetime.now(UTC) - ago
    return [
        {
            "specversion": "1.0",
            "id": f"{user}-{t}-{n}-{at.timestamp()}",
            "source": "test",
            "type": t,
            "time": at.isoformat(),
            "data": {"user_id": user, **data},
        }
        for n, t in enumerate(types)
    ]


def test_an_event_delivered_twice_counts_once(platform: Any, tenants: Any) -> None:
    with platform.client(tenants()) as client:
        sent = events("123", "item.viewed", "item.viewed", board_id="b1")
        for _ in range(2):
            assert client.platform.append_events(body=sent)["accepted"] == 2
        wait_until(
            lambda: client.features.get(user="123", features="actions_5min")["features"][
                "actions_5min"
            ]
        )
        time.sleep(1)
        answer = client.features.get(user="123", features="actions_5min,current_board,boards_30d")
        assert answer == {
            "user_id": "123",
            "features": {"actions_5min": 2, "current_board": "b1", "boards_30d": None},
        }


def test_the_address_in_the_documentation_answers_as_written(platform: Any, tenants: Any) -> None:
    name = tenants()
    headers = {"authorization": f"Bearer {platform.key(name)}"}
    url = f"{platform.address}/features?tenant={name}&user=123&features=boards_30d,actions"
    answer = httpx.get(url, headers=headers)
    assert (answer.status_code, answer.json()) == (
        200,
        {"user_id": "123", "features": {"boards_30d": None, "actions": None}},
    )
    other = httpx.get(url.replace(name, "somebody-else"), headers=headers)
    assert other.status_code == 403


def test_the_batch_job_computes_and_a_second_run_changes_nothing(
    platform: Any, tenants: Any
) -> None:
    name = tenants()
    with platform.client(name) as client:
        client.platform.append_events(
            body=events("7", *["board.created"] * 3, ago=timedelta(days=2))
        )
        day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        first = platform.shoal("features", "materialize", "--tenant", name, "--date", day)
        again = platform.shoal("features", "materialize", "--tenant", name, "--date", day)
        assert (first["changed"], again["changed"]) == (1, 0)
        assert client.features.get(user="7", features="boards_30d")["features"] == {"boards_30d": 3}
        asked = [{"user": "7", "event_timestamp": datetime.now(UTC).isoformat()}]
        rows = client.features.historical(entities=asked, features=["boards_30d"])["rows"]
        assert rows[0]["boards_30d"] == 3


def test_backfilled_features_are_joined_and_consistent(
    platform: Any, tenants: Any, tmp_path: Path
) -> None:
    name = tenants()
    with platform.client(name) as client:
        for days in (1, 2, 3):
            client.platform.append_events(
                body=events("7", "board.created", "item.viewed", ago=timedelta(days=days, hours=1))
            )
        start, end = ((datetime.now(UTC) - timedelta(days=d)).date().isoformat() for d in (3, 1))
        assert platform.shoal("features", "backfill", start, end, "--tenant", name)["days"] == 3
        times = pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC"))
        pq.write_table(
            pa.table({"user_id": ["7"], "event_timestamp": times}), tmp_path / "in.parquet"
        )
        words = (
            "features",
            "historical",
            str(tmp_path / "in.parquet"),
            str(tmp_path / "out.parquet"),
        )
        assert (
            platform.shoal(*words, "--features", "boards_30d,last_action_type", "--tenant", name)[
                "rows"
            ]
            == 1
        )
        assert pq.read_table(tmp_path / "out.parquet")["last_action_type"].to_pylist() in (
            ["board.created"],
            ["item.viewed"],
        )
        compared = wait_until(
            lambda: platform.shoal("features", "consistency", "--tenant", name, check=False)[0] == 0
        )
        assert compared


def test_a_join_by_ray_data_equals_one_by_request(platform: Any, tenants: Any) -> None:
    name = tenants()
    with platform.client(name) as client:
        users = [f"u{n}" for n in range(20)]
        for n, user in enumerate(users):
            client.platform.append_events(
                body=events(user, *["item.viewed"] * (n % 4 + 1), ago=timedelta(hours=1))
            )
        now = datetime.now(UTC)
        rows = pa.table(
            {"user_id": users, "event_timestamp": pa.array([now] * 20, pa.timestamp("us", "UTC"))}
        )
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        assert client.features.upload(name="mine", body=sink.getvalue().to_pybytes()) == {
            "accepted": 20
        }
        run = client.platform.run_job(
            name="features.historical",
            arguments={"dataset": "mine", "features": ["actions"], "parts": 3},
        )
        done = wait_until(lambda: _done(client, run["id"]), 120)
        assert (done["state"], done["result"]["rows"]) == ("succeeded", 20), done["error"]
        answer = [
            row
            for part in range(client.features.download(name="mine")["parts"])
            for row in pq.read_table(
                pa.BufferReader(client.features.download(name="mine", part=part))
            ).to_pylist()
        ]
        assert {r["user_id"]: r["actions"] for r in answer} == {
            u: n % 4 + 1 for n, u in enumerate(users)
        }
        asked = [{"user": u, "event_timestamp": now.isoformat()} for u in users]
        rows = client.features.historical(entities=asked, features=["actions"])["rows"]
        assert {r["user"]: r["actions"] for r in rows} == {
            r["user_id"]: r["actions"] for r in answer
        }
        client.features.forget(name="mine")


def _done(client: Any, run: str) -> Any:
    found = client.platform.get_run(id=run)
    return found if found["state"] in ("succeeded", "failed", "cancelled") else None


def test_features_of_all_entities_at_a_date_are_one_command(
    platform: Any, tenants: Any, tmp_path: Path
) -> None:
    name, at = tenants(), datetime.now(UTC) - timedelta(hours=2)
    with platform.client(name) as client:
        client.platform.append_events(body=events("old", "item.viewed", ago=timedelta(hours=3)))
        client.platform.append_events(body=events("new", "item.viewed", ago=timedelta(hours=1)))
        words = (
            "features",
            "as-of",
            at.isoformat(),
            str(tmp_path / "out.parquet"),
            "--features",
            "actions",
            "--tenant",
            name,
        )
        assert platform.shoal(*words)["rows"] == 1
    assert pq.read_table(tmp_path / "out.parquet").select(["user_id", "actions"]).to_pylist() == [
        {"user_id": "old", "actions": 1}
    ]


def test_feasts_own_client_works_with_a_key_over_http(
    platform: Any, tenants: Any, tmp_path: Path
) -> None:
    feast = pytest.importorskip("feast")
    import pandas as pd

    name = tenants()
    where = {"url": platform.address, "key": platform.key(name)}
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="shoal",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "shoal_features.feast_online.ShoalOnlineStore", **where},
            offline_store={"type": "shoal_features.feast_offline.ShoalOfflineStore", **where},
            batch_engine={"type": "shoal_features.feast_engine.ShoalComputeEngine"},
            entity_key_serialization_version=3,
        )
    )
    module: dict[str, Any] = {}
    exec((Path(__file__).parents[2] / "plugins/shoal_features/workspace.py").read_text(), module)
    store.apply(
        [
            o
            for o in module.values()
            if isinstance(o, feast.Entity | feast.FeatureView | feast.FeatureService)
        ]
    )
    with platform.client(name) as client:
        client.platform.append_events(
            body=events(
                "7", "board.created", "board.created", ago=timedelta(days=1, hours=1), board_id="b1"
            )
        )
        client.platform.append_events(body=events("7", "item.viewed", board_id="b2"))
        wait_until(
            lambda: client.features.get(user="7", features="actions_5min")["features"][
                "actions_5min"
            ]
        )
    now = datetime.now(UTC)
    store.materialize(now - timedelta(days=1), now, ["user_boards"])
    refs = ["user_boards:boards_30d", "user_activity:actions_5min", "user_place:current_board"]
    got = store.get_online_features(refs, [{"tenant_id": name, "user_id": "7"}]).to_dict()
    assert (got["boards_30d"], got["actions_5min"], got["current_board"]) == ([2], [1], ["b2"])
    asked = pd.DataFrame(
        {
            "tenant_id": [name] * 2,
            "user_id": ["7"] * 2,
            "event_timestamp": [now, now - timedelta(hours=2)],
        }
    )
    history = store.get_historical_features(asked, ["user_place:current_board"]).to_df()
    assert history["current_board"].tolist() == ["b2", "b1"]
    with pytest.raises(RuntimeError, match="403"):
        store.get_online_features(refs, [{"tenant_id": "somebody-else", "user_id": "7"}])


def test_a_late_run_becomes_a_metric(platform: Any, tenants: Any) -> None:
    from shoal.runtime.job_runs import JobRuns

    name = tenants()
    runs = JobRuns(json.loads((platform.data / "runtime.json").read_text())["stores"]["online"])
    due = datetime.now(UTC) - timedelta(hours=4)
    # more than run at once: some still wait when the worker looks, every five seconds,
    # for those that are late
    queued = [runs.add("features.materialize", tenant=name, due=due) for _ in range(5)]
    with platform.client(name) as client:
        try:
            wait_until(lambda: _values(client, "features.late_runs"), 90)
            assert 1 in _values(client, "features.late_runs")
        finally:
            for run in queued:
                wait_until(lambda run=run: _done(client, run.id), 120)


def _values(client: Any, metric: str) -> Any:
    try:
        return client.anomalies.get_series(metric=metric)["values"]
    except NotFound:
        return []


def test_the_watch_job_writes_age_lag_nulls_and_drift(platform: Any, tenants: Any) -> None:
    name = tenants()
    with platform.client(name) as client:
        client.platform.append_events(body=events("7", "item.viewed"))
        wait_until(lambda: client.features.get(user="7", features="actions")["features"]["actions"])
        run = client.platform.run_job(name="features.watch")
        assert wait_until(lambda: _done(client, run["id"]), 120)["state"] == "succeeded"
        view = next(v for v in client.features.freshness()["views"] if v["view"] == "user_activity")
        assert view["age_seconds"] >= 0 and view["lag_seconds"] >= 0 and view["too_late"] == 0
        assert view["features"]["actions"]["null_share"] == 0
        for metric in ("features.age_seconds", "features.lag_seconds"):
            wait_until(lambda metric=metric: _values_of_view(client, metric, "user_activity"))


def _values_of_view(client: Any, metric: str, view: str) -> Any:
    try:
        return client.anomalies.get_series(metric=metric, **{"label.view": view})["values"]
    except NotFound:
        return []


def test_definitions_are_applied_but_types_never_change(
    platform: Any, tenants: Any, tmp_path: Path
) -> None:
    name = tenants()
    source = (Path(__file__).parents[2] / "plugins/shoal_features/workspace.py").read_text()
    (tmp_path / "mine.py").write_text(
        source.replace('name="actions", dtype', 'name="my_actions", dtype').replace(
            'name="actions")', 'name="my_actions")'
        )
    )
    (tmp_path / "wrong.py").write_text(
        source.replace(
            'Field(name="current_board", dtype=String', 'Field(name="current_board", dtype=Int64'
        )
    )
    assert platform.shoal("features", "apply", str(tmp_path / "mine.py"), "--tenant", name)[
        "new"
    ] == ["user_activity:my_actions"]
    status, said = platform.shoal(
        "features", "apply", str(tmp_path / "wrong.py"), "--tenant", name, check=False
    )
    assert status == 1 and said["errors"][0]["location"] == "views.user_place.current_board"
    with platform.client(name) as client:
        wait_until(lambda: _known(client, "my_actions"))
        with pytest.raises(Invalid, match="unknown feature 'actions'"):
            wait_until(lambda: not client.features.get(user="1", features="actions"), 3)


def _known(client: Any, feature: str) -> bool:
    try:
        return bool(client.features.get(user="1", features=feature))
    except Invalid:
        return False


def test_a_reader_may_read_but_not_write(platform: Any, tenants: Any) -> None:
    with platform.client(tenants(), role="reader") as client:
        assert client.features.batch(entity="user", ids=["1"], features=["actions"])["results"][0][
            "features"
        ] == {"actions": None}
        with pytest.raises(Forbidden):
            client.features.push(view="user_boards", rows=[])


def test_an_erased_tenants_features_are_gone(platform: Any, tenants: Any) -> None:
    name = tenants()
    with platform.client(name) as client:
        client.platform.append_events(body=events("1", "item.viewed"))
        wait_until(lambda: client.features.get(user="1", features="actions")["features"]["actions"])
    platform.shoal("tenants", "delete", name, "--yes")
    platform.keys.pop(f"{name}/editor/None")
    platform.shoal("tenants", "create", name)
    with platform.client(name) as client:
        assert client.features.get(user="1", features="actions")["features"] == {"actions": None}
