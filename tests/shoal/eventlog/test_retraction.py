"""Retracting events: out of every place, completed after a crash, refused again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shoal import Event
from shoal.eventlog import keys
from shoal.eventlog.archive import archived_events
from shoal.eventlog.codec import encode_event
from shoal.eventlog.dead_letters import add_dead_letter
from shoal.eventlog.redis_log import RedisEventLog
from shoal.eventlog.retraction import Selection, is_about, retract_events
from shoal.eventlog.streams import append_command
from shoal.eventlog.tombstones import find_retracted
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import TenantLake
from shoal.stores.redis_client import async_redis
from shoal.tenants.tenant_stores import TenantStores

pytestmark = pytest.mark.anyio

GROUP = "search.index"


def made(n: int, user: object = "bo") -> Event:
    time = datetime.now(UTC) - timedelta(days=n % 3)
    return Event(id=str(n), source="s", type="x", time=time, data={"user_id": user, "n": n})


def of_user(id: str) -> Selection:
    return Selection(lambda event: is_about(event, "user", id), text=id)


class Told:
    """What capabilities were told, perhaps after a fault."""

    def __init__(self, faults: int = 0) -> None:
        self.ids: list[str] = []
        self.faults = faults

    async def __call__(self, events) -> None:
        if self.faults:
            self.faults -= 1
            raise RuntimeError("killed")
        self.ids += sorted(event.id for event in events)


async def remaining(stores: TenantStores, config: StoreConfig) -> list[str]:
    """The ids in the log and in the archive."""
    table = TenantLake(config.lake, stores._tenant).table("events")
    archived = [event.id for _, event in archived_events(table, "0", None)]
    return sorted(archived) + sorted([event.id async for _, event in stores.events.read()])


async def fill_queues(config: StoreConfig, tenant: str, event: Event) -> None:
    """Put an event among the retries and the dead letters."""
    fields = {name.encode(): value for name, value in encode_event(event).items()}
    client = async_redis(config.events)
    retries = keys.retry_queue(tenant, GROUP)
    await client.execute_command(*append_command(retries, {**encode_event(event), "p": b"1-0"}))
    await add_dead_letter(client, tenant, GROUP, (b"1-0", fields), "error", 1)


async def test_a_user_is_in_no_log_queue_or_file(stores: TenantStores, config: StoreConfig):
    log, tenant, tell = RedisEventLog(config), stores._tenant, Told()
    events = [made(n, "ana ü" if n % 2 else "bo") for n in range(6)]
    await stores.events.append(events[:4])
    await log.archive(tenant)
    await stores.events.append(events[4:])
    await fill_queues(config, tenant, events[1])
    await fill_queues(config, tenant, events[2])
    removed = await retract_events(config, tenant, of_user("ana ü"), [GROUP], tell)
    assert removed == {"archive": 2, "log": 3, "retry queues": 1, "dead letters": 1}
    assert tell.ids == ["1", "3", "5"]
    assert await remaining(stores, config) == ["0", "2", "0", "2", "4"]
    assert [letter.event.id for letter in await log.dead_letters(tenant)] == ["2"]
    assert await log.replay(tenant, GROUP, after="0") == 3
    files = [p for p in Path(config.lake, tenant).rglob("*.parquet") if "_delta_log" not in p.parts]
    assert files and "ana" not in str(
        [pq.read_table(p, partitioning=None).to_pylist() for p in files]
    )
    assert await find_retracted(config, tenant, events) == [1, 3, 5]
    assert await retract_events(config, tenant, of_user("ana ü"), [GROUP], Told()) == {}


async def test_a_killed_retraction_is_completed(stores: TenantStores, config: StoreConfig):
    tenant, tell = stores._tenant, Told(faults=1)
    await stores.events.append([made(n) for n in range(4)])
    some = Selection.of_ids([("s", "1"), ("s", "2"), ("other", "3")])
    with pytest.raises(RuntimeError, match="killed"):
        await retract_events(config, tenant, some, [GROUP], tell)
    assert await remaining(stores, config) == ["0", "3"] and tell.ids == []
    await retract_events(config, tenant, Selection.of_ids([("s", "0")]), [GROUP], tell)
    assert tell.ids == ["0", "1", "2"]
    assert await remaining(stores, config) == ["3"]


ABOUT = [
    ({"user_id": "7"}, True),
    ({"user_id": 7}, True),
    ({"user": "7", "user_id": "8"}, True),
    ({"unit_type": "user", "unit": "7"}, True),
    ({"unit_type": "board", "unit": "7"}, False),
    ({"user_id": True}, False),
    ({"user_id": "77", "board_id": "7"}, False),
    ("7", False),
    (None, False),
]


@pytest.mark.parametrize(("data", "expected"), ABOUT)
def test_events_are_about_whom_they_name(data: object, expected: bool):
    event = Event(id="1", type="x", data=data, subject="7")
    assert is_about(event, "user", "7") is expected
