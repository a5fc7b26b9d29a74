"""Erasing a tenant's data from every store."""

from datetime import date

import pyarrow as pa
import pytest

from shoal import Event, InternalError, VectorSchema
from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores import online
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis
from shoal.tenants.erasure import erase_data, stores_with_data
from shoal.tenants.tenant_stores import TenantStores, open_stores

pytestmark = pytest.mark.anyio


async def fill(stores: TenantStores, config: StoreConfig, tenant: str) -> None:
    for key in [("user", "1"), ("user", "2"), ("{}", "user", "1", "{}", "clicks")]:
        await stores.online.set(key, "x")
    await stores.events.append([Event(type="x"), Event(type="y")])
    await RedisEventLog(config).replay(tenant, "search", after="0")
    await RedisEventLog(config).archive(tenant)
    await stores.lake.append("metrics", pa.table({"n": [1]}), date(2026, 3, 1))
    await stores.vectors.ensure("items", VectorSchema(2))
    await stores.vectors.upsert("items", [{"id": str(i), "vectors": [[1, 0]]} for i in range(4)])


async def test_erasing_a_tenant_removes_all_of_it_and_nothing_else(
    config: StoreConfig, stores: TenantStores, tenant: str
):
    near = f"{tenant}-2"
    other = open_stores(config, near, "notes")
    await fill(stores, config, tenant)
    await fill(other, config, near)
    assert await erase_data(config, tenant) == {"events": 2, "online": 3, "vectors": 4, "lake": 2}
    assert await stores_with_data(config, tenant) == []
    for uri in (config.online, config.events):
        keys = [key.decode() async for key in async_redis(uri).scan_iter(f"*{tenant}*")]
        assert all(near in key for key in keys)
    assert tenant not in await RedisEventLog(config).tenants()
    assert await erase_data(config, tenant) == {"events": 0, "online": 0, "vectors": 0, "lake": 0}
    assert sorted(await stores_with_data(config, near)) == ["events", "lake", "online", "vectors"]
    assert await other.vectors.count("items") == 4


async def test_an_erased_tenant_can_be_created_again(
    config: StoreConfig, stores: TenantStores, tenant: str
):
    for _ in range(2):
        await fill(stores, config, tenant)
        assert (await erase_data(config, tenant))["vectors"] == 4


async def test_stores_with_remaining_data_are_named(
    config: StoreConfig, stores: TenantStores, tenant: str, monkeypatch
):
    await fill(stores, config, tenant)

    async def lazy(*_: object) -> int:
        return 0

    monkeypatch.setattr(online, "erase", lazy)
    with pytest.raises(InternalError, match="online"):
        await erase_data(config, tenant)


@pytest.mark.parametrize("name", ["*", "", "acme*", "../x", "Acme"])
async def test_an_invalid_tenant_id_is_not_erased(config: StoreConfig, name: str):
    with pytest.raises(ValueError, match="tenant"):
        await erase_data(config, name)
