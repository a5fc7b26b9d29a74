"""Erase everything that the stores and the event log hold of a tenant, and prove it."""

from collections.abc import Mapping
from typing import Any

from shoal.contract.errors import InternalError
from shoal.contract.names import check_tenant
from shoal.eventlog import redis_log
from shoal.stores import online, redis_files
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import translate_errors

from .keyspace import erased_meanwhile_key

NOTED_SECONDS = 3600


async def erase_data(config: StoreConfig, tenant: str) -> dict[str, int]:
    """Erase a tenant from every store, then search each for it again.

    Erasing a tenant again does no harm.

    Args:
        config: Where the stores are.
        tenant: The tenant's id.

    Returns:
        How much was erased: events and dead letters (`events`), keys (`online`), rows
        (`vectors`), files (`lake`).

    Raises:
        InternalError: Something was written meanwhile; names the stores that hold it.
        Unavailable: A store cannot be reached.
        ValueError: `tenant` is no tenant's id.
    """
    from shoal.stores import lake, vectors

    check_tenant(tenant)
    erased = {
        "events": await redis_log.erase(config, tenant),
        "online": await online.erase(config, tenant),
        "vectors": await vectors.erase(config, tenant),
        "lake": await lake.erase(config, tenant),
    }
    if remaining := await stores_with_data(config, tenant):
        raise InternalError(
            f"Data of tenant {tenant} remains in {', '.join(remaining)}:"
            " erase it again once nothing writes to it"
        )
    return erased


async def note_erased(redis: Any, tenant: str, counts: Mapping[str, int]) -> None:
    """Keep what work that ended during an erasure erased itself, for the report."""
    key = erased_meanwhile_key(tenant)
    with translate_errors():
        pipe = redis.pipeline(transaction=False)
        for store, count in counts.items():
            pipe.hincrby(key, store, count)
        await pipe.expire(key, NOTED_SECONDS).execute()


async def take_noted(redis: Any, tenant: str) -> dict[str, int]:
    """What was noted of a tenant's erasure, once."""
    key = erased_meanwhile_key(tenant)
    with translate_errors():
        noted, _ = await redis.pipeline(transaction=False).hgetall(key).delete(key).execute()
    return {store.decode(): int(count) for store, count in noted.items()}


async def rewrite_files(config: StoreConfig) -> dict[str, str]:
    """Have the Redis servers forget on disk what was deleted in memory.

    Returns:
        By store, why what was deleted may still be in its files; empty where it is not.
    """
    reasons = {name: await redis_files.rewrite_files(uri) for name, uri in _servers(config).items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _servers(config: StoreConfig) -> dict[str, str]:
    return {"events": config.events} | (
        {"online": config.online} if config.online != config.events else {}
    )


async def stores_with_data(config: StoreConfig, tenant: str) -> list[str]:
    """The names of the stores that hold anything of a tenant."""
    from shoal.stores import lake, vectors

    found = {
        "events": await redis_log.has_data(config, tenant),
        "online": await online.has_data(config, tenant),
        "vectors": await vectors.has_data(config, tenant),
        "lake": await lake.has_data(config, tenant),
    }
    return [store for store, has_data in found.items() if has_data]
