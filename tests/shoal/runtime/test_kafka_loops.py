"""A worker's loops take topics into the log and mirror it, as configured."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shoal import Conflict, Invalid, NotFound, QuotaExceeded
from shoal.runtime.configuration import Config
from shoal.runtime.kafka import kafka_loops
from shoal.tenants.records import Limits, Quota
from shoal.testing import CapabilityApp, wait_until

from ...kafka_mock import MockKafka

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def kafka() -> Iterator[MockKafka]:
    yield MockKafka()


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp], kafka: MockKafka) -> Iterator[CapabilityApp]:
    """An application with a worker's loops of a source and a sink."""
    app, stop, servers = shoal_app(settings={}), asyncio.Event(), f"kafka://{kafka.address}"
    source = {
        **{"name": "crm", "servers": servers, "topics": ["in"], "tenant": "key"},
        **{"tenants": ["acme", "globex"], "format": "json", "type": "deal.won"},
        "fields": {"id": "id", "subject": "user"},
    }
    sink = {"name": "out", "servers": servers, "topic": "out", "types": ["deal.*"]}
    given = Config(sources=[source], sinks=[sink])
    update = {"sources": given.sources, "sinks": given.sinks}
    app.platform.config = app.platform.config.model_copy(update=update)
    for tenant in ("acme", "globex"):
        app.client(tenant)

    async def start() -> list[asyncio.Future[None]]:
        loops = kafka_loops(app.platform, "w", app.platform.tenants, stop, export=False)
        return [asyncio.ensure_future(loop) for loop in loops]

    async def end() -> None:
        stop.set()
        await asyncio.gather(*tasks)

    tasks = app.run(start())
    yield app
    app.run(end())


def letters(client: Any) -> list[dict[str, Any]]:
    return client.platform.dead_letters()["events"]  # type: ignore[no-any-return]


def test_an_event_goes_from_topic_to_topic(app: CapabilityApp, kafka: MockKafka) -> None:
    kafka.send("in", b'{"id": "d1", "user": "ana"}', "globex")
    [(key, value, _)] = kafka.read("out", 1)
    assert (key, b'"d1"' in value) == (b"globex", True)
    groups = {
        g["group"]: g for g in app.client("platform", "admin").platform.list_groups()["groups"]
    }
    assert groups["kafka.out"]["installed"]
    with pytest.raises(Conflict, match=r"kafka\.out is installed"):
        app.client("platform", "admin").platform.forget_group(group="kafka.out")


def test_what_is_over_a_quota_waits_for_a_replay(app: CapabilityApp, kafka: MockKafka) -> None:
    acme, other = app.client("acme", "admin"), app.client("globex", "admin")
    limit(app, 3)
    for number in range(5):
        row = {"id": f"q{number}", "user": "ana"}
        kafka.send("in", json.dumps(row).encode(), "acme")
        kafka.send("in", json.dumps(row).encode(), "globex")
    kafka.send("in", b'{"id": "q5"}', "acme")  # no event: it has no user
    wait_until(lambda: len(letters(acme)) == 3)
    wait_until(lambda: app.run(count(app, "globex")) >= 5)
    assert letters(other) == [] and app.run(count(app, "acme")) == 3
    reasons = [letter["error"] for letter in letters(acme)]
    assert sum("quota of 3 events" in reason for reason in reasons) == 2
    with pytest.raises(QuotaExceeded):
        acme.platform.replay(body={"group": "kafka.crm"})
    with pytest.raises(Invalid, match="after"):
        acme.platform.replay(body={"group": "kafka.crm", "after": "0"})
    with pytest.raises(NotFound):
        other.platform.replay(body={"group": "kafka.crm", "ids": [letters(acme)[0]["id"]]})
    limit(app, 4)
    wait_until(lambda: replayed(acme) == 1)
    limit(app, 100)
    wait_until(lambda: replayed(acme) == 1)
    assert app.run(count(app, "acme")) == 5
    assert app.platform.usage.used("acme", "day", "platform", "events") == 5
    [bad] = letters(acme)
    assert bad["group"] == "kafka.crm" and bad["event"]["data"]["value"] == '{"id": "q5"}'
    with pytest.raises(Invalid, match="the field user"):
        acme.platform.replay(body={"group": "kafka.crm", "ids": [bad["id"]]})


def replayed(client: Any) -> int:
    """How many messages a replay takes; limits hold within a second."""
    try:
        return client.platform.replay(body={"group": "kafka.crm"})["replayed"]  # type: ignore[no-any-return]
    except QuotaExceeded:
        return 0


def limit(app: CapabilityApp, events: int) -> None:
    limits = Limits(day=Quota(events=events))
    app.run(app.platform.directory.set_limits("acme", "*", limits))


async def count(app: CapabilityApp, tenant: str) -> int:
    events = app.platform.open_stores(tenant, "platform").events
    return sum([event.type == "deal.won" async for _, event in events.read()])
