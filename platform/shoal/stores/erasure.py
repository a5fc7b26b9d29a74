"""Removing a tenant from every store, proved."""

from collections.abc import AsyncIterator
from typing import Any

from shoal.contract.errors import InternalError
from shoal.contract.names import check_tenant
from shoal.eventlog import codec

from .configuration import StoreConfig
from .redis_client import async_redis, translate_errors


async def erase(config: StoreConfig, tenant: str) -> dict[str, int]:
    """Remove all that the stores hold of a tenant and say how much went: keys
    (`online`), events and dead letters in the log (`events`), rows (`vectors`), files
    (`lake`). Then every store is searched for it again: InternalError names where
    something is left, as happens when someone still writes. Erasing again does no harm.
    """
    from .lake import run

    check_tenant(tenant)
    gone = {
        "events": await _erase_log(config, tenant),
        "online": await _erase_online(config, tenant),
        "vectors": await _erase_vectors(config, tenant),
        "lake": await run(_erase_lake, config, tenant),
    }
    if left := await remains(config, tenant):
        raise InternalError(
            f"something of {tenant} is left in {', '.join(left)}: erase it again once nobody writes"
        )
    return gone


async def remains(config: StoreConfig, tenant: str) -> list[str]:
    """Which stores still hold something of the tenant."""
    from .lake import TenantLake, run
    from .vectors import VectorStore

    found = []
    with translate_errors():
        async for _ in _keys(async_redis(config.events), f"{codec.log(tenant)}*"):
            found.append("events")
            break
        for pattern in _patterns(tenant):
            async for _ in _keys(async_redis(config.online), pattern):
                found.append("online")
                break
    if await VectorStore(config, tenant).names():
        found.append("vectors")
    if await run(TenantLake(config.lake, tenant).exists):
        found.append("lake")
    return list(dict.fromkeys(found))


def _patterns(tenant: str) -> tuple[str, str]:
    return f"{tenant}:*", f"{{{tenant}:*"


async def _keys(client: Any, pattern: str) -> AsyncIterator[bytes]:
    async for key in client.scan_iter(match=pattern, count=1000):
        yield key


async def _erase_log(config: StoreConfig, tenant: str) -> int:
    client = async_redis(config.events)
    with translate_errors():
        count = int(await client.xlen(codec.log(tenant))) + int(
            await client.xlen(codec.dead(tenant))
        )
        for each in {config.events: client, config.online: async_redis(config.online)}.values():
            await _delete(each, f"{codec.log(tenant)}*")
        await client.zrem(codec.TENANTS, tenant)
    return count


async def _erase_online(config: StoreConfig, tenant: str) -> int:
    with translate_errors():
        return sum(
            [await _delete(async_redis(config.online), pattern) for pattern in _patterns(tenant)]
        )


async def _delete(client: Any, pattern: str) -> int:
    gone, batch = 0, []
    async for key in _keys(client, pattern):
        batch.append(key)
        if len(batch) == 1000:
            gone += await _unlink(client, batch)
            batch = []
    return gone + await _unlink(client, batch)


async def _unlink(client: Any, keys: list[bytes]) -> int:
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.execute_command("UNLINK", key)  # a cluster's pipeline has no `unlink`
    return sum(await pipe.execute()) if keys else 0


async def _erase_vectors(config: StoreConfig, tenant: str) -> int:
    from .vectors import VectorStore

    door, rows = VectorStore(config, tenant), 0
    for name in await door.names():
        rows += await door.count(name)
        await door.drop(name)
    return rows


def _erase_lake(config: StoreConfig, tenant: str) -> int:
    from .lake import TenantLake

    folder = TenantLake(config.lake, tenant)
    return folder.drop(folder.root)
