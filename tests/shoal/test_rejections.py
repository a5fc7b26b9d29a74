"""Events that a capability's stream cannot use are seen and counted."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shoal import Client, Event, Forbidden
from shoal.contract.errors import ShoalError
from shoal.contract.events import Rejection
from shoal.eventlog import rejections
from shoal.eventlog.redis_log import RedisEventLog
from shoal.eventlog.subscription import Handled
from shoal.runtime.stream_worker import Worker
from shoal.testing import wait_until
from shoal.testing.app import CapabilityApp

from .api.samples import OUTCOME, PERSON, TASK, item

VIEW = {
    "name": "activity",
    "entity": "user",
    "join_key": "user_id",
    "kind": "stream",
    "features": [{"name": "views", "dtype": "int64", "function": "count", "window": 3600}],
    "types": ["item.viewed"],
    "fields": ["user_id"],
}
RIGHT: dict[str, tuple[str, dict[str, Any]]] = {
    "optimizer person": ("person.updated", {"id": "bo", **PERSON}),
    "optimizer task": ("task.updated", {"id": "t", **TASK, "board_id": None}),
    "optimizer outcome": ("task.completed", {**OUTCOME, "quality": 1, "days_early": 1}),
    "anomalies": ("metric", {"metric": "m", "value": 1.0, "labels": {"a": "b"}, "kind": "gauge"}),
    "features": ("item.viewed", {"user_id": "ana"}),
    "search": ("item.updated", item("b")),
    "search deletion": ("item.deleted", {"id": "i"}),
}
WRONG_FIELDS: dict[str, list[dict[str, Any]]] = {
    "optimizer person": [{"workload": 900}, {"skills": 7}, {"capacity_hours": "much"}, {"id": 7}],
    "optimizer task": [{"deadline": "soon"}, {"skills": 7}, {"estimated_hours": -1}],
    "optimizer outcome": [{"quality": 7}, {"people": 7}, {"actual_hours": "long"}],
    "anomalies": [
        {"metric": 7},
        {"metric": "a\nb"},
        {"value": "7"},
        {"value": True},
        {"labels": []},
        {"kind": "x"},
        {"labels": {"a": 1}},
    ],
    "features": [{"user_id": None}, {"user_id": 1.5}, {"user_id": "a\nb"}, {"user_id": "x" * 513}],
    "search": [{"id": 7}, {"board_id": "a\nb"}, {"type": "x"}, {"title": 7}, {"text": " "}],
    "search deletion": [{"id": 7}, {"id": ""}, {"id": "x" * 513}, {"updated_at": "soon"}],
}
NEEDED = {
    "anomalies": ["metric", "value"],
    "features": ["user_id"],
    "optimizer person": ["id"],
    "search": ["id", "board_id", "type", "title", "text"],
    "search deletion": ["id"],
}
GROUPS = {
    "optimizer": "optimizer.records",
    "anomalies": "anomalies.points",
    "features": "features.windows",
    "search": "search.index",
}


def wrong_data(name: str) -> Iterator[Any]:
    """Data of every wrong kind for the events of a name in `RIGHT`."""
    _, right = RIGHT[name]
    yield from ([], "text", 7, [right])
    for wrong in WRONG_FIELDS[name]:
        yield {**right, **wrong}
    for field in NEEDED.get(name, ()):
        yield {key: value for key, value in right.items() if key != field}


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> Iterator[CapabilityApp]:
    app = shoal_app("anomalies", "features", "optimizer", "search")

    async def follow() -> list[asyncio.Task[None]]:
        worker = Worker(app.platform)
        worker._tenants = app.tenants
        return [
            asyncio.create_task(worker._follow(group, capability.name, stream))
            for group, (capability, stream) in app.platform.streams().items()
        ]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    tasks = app.run(follow())
    yield app
    app.run(stop())


@pytest.fixture
def admin(app: CapabilityApp) -> Client:
    client = app.client(f"acme-{secrets.token_hex(4)}", "admin")
    client.features.apply(body={"views": [VIEW], "services": {}})
    return client


def sent(name: str, id: str, data: Any) -> dict[str, Any]:
    return {"id": id, "source": "test", "type": RIGHT[name][0], "data": data}


@pytest.mark.parametrize("name", RIGHT)
def test_wrong_data_of_each_kind_is_seen_and_counted(admin: Client, name: str) -> None:
    group = GROUPS[name.split()[0]]
    wrong = {f"wrong-{n}": data for n, data in enumerate(wrong_data(name))}
    right = {f"right-{n}": RIGHT[name][1] for n in range(3)}
    events = [sent(name, id, data) for id, data in (wrong | right).items()]
    assert admin.platform.append_events(body=events)["accepted"] == len(events)
    wait_until(
        lambda: admin.platform.rejected_events()["counts"].get(group, 0) >= len(wrong) or None
    )
    found = admin.platform.rejected_events(group=group)
    of_this = {row["event"]["id"]: row for row in found["events"]}
    assert set(of_this) == set(wrong)
    assert found["counts"] == {group: len(wrong)}
    for row in of_this.values():
        assert row["event"]["source"] == "test" and row["event"]["type"] == RIGHT[name][0]
        assert len(row["reason"]) > 10 and "Traceback" not in row["reason"]
    assert admin.platform.dead_letters()["events"] == []


def test_pages_hold_every_rejection_once(app: CapabilityApp, admin: Client) -> None:
    events = [sent("anomalies", f"a{n}", 7) for n in range(7)]
    events += [sent("optimizer person", f"p{n}", 7) for n in range(6)]
    admin.platform.append_events(body=events)
    wait_until(lambda: sum(admin.platform.rejected_events()["counts"].values()) == 13)
    seen, cursor = [], None
    while True:
        page = admin.platform.rejected_events(limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [row["event"]["id"] for row in page["events"]]
        if (cursor := page["cursor"]) is None:
            break
    assert sorted(seen) == sorted(event["id"] for event in events)


def test_only_the_tenants_own_service_sees_them(app: CapabilityApp, admin: Client) -> None:
    user = app.client("acme", "editor", "ana")
    with pytest.raises(Forbidden):
        user.platform.rejected_events()
    assert app.client("other", "admin").platform.rejected_events()["events"] == []


def test_a_cursor_of_nothing_is_refused(admin: Client) -> None:
    with pytest.raises(ShoalError, match="cursor"):
        admin.platform.rejected_events(cursor="bm9uZQ")


def test_few_and_new_ones_are_kept(app: CapabilityApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejections, "KEPT", 5)
    tenant = f"acme-{secrets.token_hex(4)}"
    app.key(tenant)
    config = app.platform.config.stores
    log, done = RedisEventLog(config), asyncio.Event

    async def reject_all() -> int:
        stop = done()

        async def handle(_: str, events: list[Event]) -> Handled:
            if events[-1].id == "19":
                asyncio.get_running_loop().call_later(0.2, stop.set)
            return Handled(rejections=[Rejection(event, "no") for event in events])

        await app.platform.open_stores(tenant, "platform").events.append(
            [Event(id=str(n), type="x") for n in range(20)]
        )

        async def tenants() -> list[str]:
            return [tenant]

        await log.consume("test.x", "w", handle, tenants=tenants, stop=stop, batch_size=3)
        return (await log.rejection_counts(tenant))["test.x"]

    assert app.run(reject_all()) == 20
    kept = app.run(log.rejections(tenant, group="test.x"))
    assert [each.event_id for each in kept] == ["19", "18", "17", "16", "15"]
    assert app.run(log.forget_group(tenant, "test.x"))
    assert app.run(log.rejections(tenant)) == []
    assert "test.x" not in app.run(log.group_names(tenant))
