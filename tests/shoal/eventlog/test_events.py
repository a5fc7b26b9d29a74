"""A tenant's event store: appending and reading."""

import json
import math
import pickle

import pytest

from shoal import Event, Invalid, Unavailable
from shoal.eventlog.codec import sort_key, type_filter
from shoal.stores.configuration import StoreConfig
from shoal.tenants.tenant_stores import TenantStores, open_stores

pytestmark = pytest.mark.anyio


def made(n: int, type: str = "item.created") -> list[Event]:
    return [Event(id=str(i), type=type, data={"n": i}) for i in range(n)]


async def test_events_are_read_in_the_order_of_appending(stores: TenantStores):
    events = made(2500)
    positions = await stores.events.append(events)
    assert positions == sorted(positions, key=sort_key)
    assert [e async for e in stores.events.read()] == list(zip(positions, events, strict=True))
    assert [p async for p, _ in stores.events.read(positions[2497])] == positions[2498:]
    assert await stores.events.length() == 2500


async def test_an_event_is_read_back_unchanged(stores: TenantStores):
    event = Event(
        id="1",
        source="s/ü",
        type="x",
        time="0001-01-01T00:00:00Z",
        subject="ana",
        data={"a": [1, None, "\x00", {"b": 1.5}]},
        traceparent="00-1",
    )
    await stores.events.append([event])
    assert [e async for _, e in stores.events.read()] == [(event)]


async def test_types_are_names_or_prefixes(stores: TenantStores):
    for type in ["item.created", "item.deleted", "items.x", "metric", "item"]:
        await stores.events.append(made(1, type))
    assert [e.type async for _, e in stores.events.read(types=["item.*", "metric"])] == [
        "item.created",
        "item.deleted",
        "metric",
    ]
    assert [e.type async for _, e in stores.events.read(types=["item"])] == ["item"]
    assert type_filter(["*"])(b"anything")


async def test_tenants_have_logs_of_their_own(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    await stores.events.append(made(3))
    assert await open_stores(config, f"{tenant}-2", "notes").events.length() == 0


async def test_the_online_store_reaches_no_key_of_the_log(stores: TenantStores, tenant: str):
    await stores.events.append(made(1))
    for key in [f"@events:{{{tenant}}}", ("@events", f"{{{tenant}}}"), ("{}", "@events")]:
        assert not await stores.online.exists(key)


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else 1


async def test_every_accepted_event_can_be_read(stores: TenantStores):
    """Writing goes deeper than reading: such an event would stand in the way of all
    behind it.
    """
    for depth in (150, 220, 5_000):
        try:
            await stores.events.append(
                [Event(type="x", data=json.loads("[" * depth + "1" + "]" * depth))]
            )
        except (Invalid, RecursionError):
            assert depth > 150
    assert [event.data async for _, event in stores.events.read()] == [nested(150)]


@pytest.mark.parametrize("data", [object(), {"a": object()}, {"x": "\ud800"}])
async def test_with_data_that_is_no_json_nothing_is_appended(stores: TenantStores, data: object):
    with pytest.raises(Invalid):
        await stores.events.append([*made(1), Event(type="x", data=data)])
    assert await stores.events.length() == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [math.nan]}])
async def test_numbers_that_json_lacks_are_invalid(stores: TenantStores, value: object):
    with pytest.raises(Invalid):
        await stores.events.append([Event(type="x", data=value)])


@pytest.mark.parametrize(
    "after", ["x", "1-", "-1", "1-2-3", "+", "$", "", "1 2", "99999999999999999999-0"]
)
async def test_an_invalid_position_is_refused(stores: TenantStores, after: str):
    with pytest.raises(Invalid):
        _ = [e async for e in stores.events.read(after)]


async def test_appending_nothing_is_allowed(stores: TenantStores):
    assert await stores.events.append([]) == []


async def test_an_unreachable_log_is_unavailable(unreachable: StoreConfig):
    with pytest.raises(Unavailable):
        await open_stores(unreachable, "acme", "notes").events.append(made(1))


async def test_a_store_pickles(stores: TenantStores):
    await pickle.loads(pickle.dumps(stores.events)).append(made(1))
    assert await stores.events.length() == 1
