"""Erasing an entity and retracting events, against a dictionary of what is left."""

import io
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal import Event
from shoal.stores.configuration import StoreConfig
from shoal.testing.app import CapabilityApp
from shoal.testing.servers import RedisServer
from shoal_features.views import Feature, View

DAY = timedelta(days=1)
USER = ("data.user_id",)
STREAM = View(
    "activity",
    "user",
    "user_id",
    "stream",
    (
        Feature("n", "int64", "count", "", 86_400),
        Feature("boards", "int64", "count_distinct", "board_id", 86_400),
        Feature("spent", "float64", "sum", "amount", 3 * 86_400),
        Feature("last_board", "string", "last", "board_id"),
    ),
    None,
    ("act.*",),
    USER,
)
BOARD = View(
    "visits",
    "board",
    "board_id",
    "stream",
    (Feature("visitors", "int64", "count_distinct", "user_id", 3 * 86_400),),
    None,
    ("act.*",),
    ("data.board_id",),
)
BATCH = View(
    "month",
    "user",
    "user_id",
    "batch",
    (Feature("n_30d", "int64", "count", "", 30 * 86_400),),
    None,
    ("act.*",),
    USER,
)
PLAIN = View("profile", "user", "user_id", "plain", (Feature("score", "int64"),))
VIEWS = (STREAM, BOARD, BATCH, PLAIN)
USERS, BOARDS = ["canary-ann", "canary-bob", "canary-cyd"], ["x", "y"]


class Store:
    """One tenant of the platform, and a dictionary of what it should have."""

    def __init__(self, app: CapabilityApp, tenant: str) -> None:
        self.app, self.tenant = app, tenant
        self._http = httpx.Client(
            base_url=app.address,
            headers={"Authorization": f"Bearer {app.key(tenant, 'admin')}"},
            timeout=60,
        )
        self.events: dict[str, Event] = {}
        self.scores: dict[str, int] = {}
        self.call("PUT", "/features/definitions", json={"views": [asdict(v) for v in VIEWS]})

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._http.request(method, path, **options)
        assert answer.status_code < 300, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.content

    def append(self, events: list[Event]) -> Any:
        rows = [event.model_dump(mode="json") for event in events]
        return self.call("POST", "/platform/events", json=rows)

    def handle(self, events: list[Event]) -> None:
        self.app.stream("features.windows", events, tenant=self.tenant)

    def push(self, scores: dict[str, int], **times: str) -> None:
        at = datetime.now(UTC).isoformat()
        rows = [
            {"user_id": u, "event_timestamp": at, "score": n, **times} for u, n in scores.items()
        ]
        body = {"rows": rows, "to": "online_and_offline"}
        assert self.call("POST", "/features/views/profile/rows", json=body)["rejected"] == []

    def archive(self) -> None:
        self.app.run(self.app.platform.event_log.archive(self.tenant))

    def backfill(self) -> None:
        today = datetime.now(UTC).date()
        self.app.job("features.backfill", self.tenant, start=str(today - 2 * DAY), end=str(today))

    def expected(self, entity: str, id: str, now: datetime) -> dict[str, Any]:
        """The features of an entity, from the dictionary."""
        own = [e for e in self.events.values() if e.data[f"{entity}_id"] == id and e.time <= now]
        if entity == "board":
            recent = [e for e in own if e.time > now - 3 * DAY]
            return {"visitors": len({e.data["user_id"] for e in recent}) if own else None}
        day, week = ([e for e in own if e.time > now - k * DAY] for k in (1, 3))
        last = max(own, key=lambda e: (e.time, e.id), default=None)
        return {
            "n": len(day) if own else None,
            "boards": len({e.data["board_id"] for e in day}) if own else None,
            "spent": sum(e.data["amount"] for e in week) if own else None,
            "last_board": last and last.data["board_id"],
            "n_30d": len(own) or None,
            "score": self.scores.get(id),
        }

    def check(self) -> None:
        """Online, history and the offline table give what the dictionary does."""
        for entity, ids in (("user", USERS), ("board", BOARDS)):
            names = list(self.expected(entity, ids[0], datetime.now(UTC)))
            now = datetime.now(UTC)
            online = self.call(
                "POST", "/features/batch", json={"entity": entity, "ids": ids, "features": names}
            )["results"]
            wanted = [self.expected(entity, id, now) for id in ids]
            assert [found["features"] for found in online] == wanted
            rows = [{f"{entity}_id": id, "event_timestamp": now.isoformat()} for id in ids]
            body = {"entities": rows, "entity": entity, "features": names}
            history = self.call("POST", "/features/historical", json=body)["rows"]
            assert [{n: row[n] for n in names} for row in history] == wanted
        table = self.call("GET", "/features/views/month/rows")
        for row in pq.read_table(io.BytesIO(table)).to_pylist():
            own = [e for e in self.events.values() if e.data["user_id"] == row["user_id"]]
            assert row["n_30d"] == sum(e.time <= row["event_timestamp"] for e in own) > 0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CapabilityApp]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    uri = f"redis://127.0.0.1:{redis.port}/0"
    lake = str(tmp_path_factory.mktemp("lake"))
    app = CapabilityApp(StoreConfig(online=uri, lake=lake, vectors=f"{lake}/v"), ["features"])
    yield app
    app.close()
    redis.stop()


def files_with(app: CapabilityApp, tenant: str, text: str) -> list[str]:
    """The Parquet files of a tenant's lake that have a text, deleted ones included."""
    data = Path(app.platform.stores.lake, tenant).rglob("date=*/*.parquet")
    return [f.name for f in data if text in str(pq.read_table(f, partitioning=None).to_pylist())]


_tenants = iter(range(1_000))
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.sampled_from(BOARDS),
        st.integers(1, 4 * 86_400),
        st.integers(0, 9),
    ),
    min_size=4,
    max_size=120,
)


@settings(max_examples=3, deadline=None)
@given(EVENTS, st.data())
def test_what_is_removed_stays_removed_everywhere(app, rows, data):
    store = Store(app, f"erase{next(_tenants)}")
    now = datetime.now(UTC)
    sent = [
        Event(
            id=f"e{n:03}",
            source="t",
            type="act.done",
            time=now - timedelta(seconds=ago),
            data={"user_id": user, "board_id": board, "amount": amount},
        )
        for n, (user, board, ago, amount) in enumerate(rows)
    ]
    archived = data.draw(st.integers(0, len(sent)))
    store.append(sent[:archived])
    store.archive()
    if archived < len(sent):
        store.append(sent[archived:])
    store.handle(sent)
    store.events = {event.id: event for event in sent}
    store.scores = {user: n for n, user in enumerate(USERS)}
    store.push(store.scores)
    store.backfill()
    store.check()
    ids = data.draw(
        st.lists(st.sampled_from(sorted(store.events)), min_size=1, max_size=5, unique=True)
    )
    body = {"events": [{"source": "t", "id": id} for id in [*ids, "unknown"]]}
    done = store.call("POST", "/platform/events/retract", json=body)["removed"]
    assert done.get("events.log", 0) + done.get("events.archive", 0) >= len(ids)
    for id in ids:
        del store.events[id]
    store.check()
    gone = data.draw(st.sampled_from(USERS))
    erased = store.call("DELETE", "/platform/entities/user", params={"id": gone})
    assert erased["removed"]["features.online keys"] and erased["remains"]["backups"]
    store.events = {id: e for id, e in store.events.items() if e.data["user_id"] != gone}
    del store.scores[gone]
    store.check()
    assert files_with(app, store.tenant, gone) == []
    answer = store.append(sent)  # as a producer that sends again
    assert answer["accepted"] == len(store.events)
    store.handle(sent)  # as a worker that had read them before
    store.push({gone: 5}, created=(now - DAY).isoformat())
    store.archive()
    store.backfill()
    store.check()
    assert files_with(app, store.tenant, gone) == []
