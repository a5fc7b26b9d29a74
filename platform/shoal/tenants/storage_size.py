"""How many bytes each tenant's data takes in the stores."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from shoal.contract.errors import NotFound
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, is_cluster, translate_errors

BATCH = 500
"""Keys of a Redis that are measured at once."""
ROW_BYTES = 4096
"""What a row of vectors is counted as: its vector, words and fields."""
_OWNER = re.compile(rb"(?:@events:)?\{?([a-z0-9][a-z0-9_-]{0,62})[:}]")


async def measure_storage(config: StoreConfig, tenants: Sequence[str]) -> dict[str, int]:
    """The bytes of some tenants' data: memory in Redis, files in the lake, vectors.

    Redis is walked once for all tenants, in steps of 500 keys.

    Args:
        config: Where the stores are.
        tenants: Their ids.

    Returns:
        The bytes by tenant.

    Raises:
        Unavailable: A store cannot be reached.
    """
    from shoal.stores import lake

    sizes = Counter(dict.fromkeys(tenants, 0))
    for uri in {config.online, config.events}:
        async for owner, size in _key_sizes(uri):
            if owner in sizes:
                sizes[owner] += size
    for tenant in tenants:
        sizes[tenant] += await lake.size(config, tenant)
        sizes[tenant] += ROW_BYTES * await count_vector_rows(config, tenant)
    return dict(sizes)


async def _key_sizes(uri: str) -> AsyncIterator[tuple[str, int]]:
    client, batch = async_redis(uri), list[tuple[str, bytes]]()
    with translate_errors():
        async for key in client.scan_iter(count=BATCH):
            if owner := _OWNER.match(key):
                batch.append((owner[1].decode(), key))
            if len(batch) >= BATCH:
                for pair in await _measured(client, batch):
                    yield pair
                batch = []
        for pair in await _measured(client, batch):
            yield pair


async def _measured(client: Any, batch: Sequence[tuple[str, bytes]]) -> list[tuple[str, int]]:
    if is_cluster(client):  # whose pipelines lack the command
        sizes = await asyncio.gather(*(client.memory_usage(key) for _, key in batch))
    else:
        pipe = client.pipeline(transaction=False)
        for _, key in batch:
            pipe.memory_usage(key)
        sizes = await pipe.execute()
    return [(owner, size or 0) for (owner, _), size in zip(batch, sizes, strict=True)]


async def count_vector_rows(config: StoreConfig, tenant: str) -> int:
    """How many rows a tenant has in the vectors store."""
    from shoal.stores.vectors import open_vectors

    store, rows = open_vectors(config, tenant), 0
    for name in await store.names():
        try:
            rows += await store.count(name)
        except NotFound:  # dropped meanwhile
            continue
    return rows
