"""What is kept of retracted events, so that they are not accepted again."""

import hashlib
import time
from collections.abc import Sequence

from shoal.contract.events import Event
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, translate_errors

from . import keys
from .streams import PAGE

KEPT_SECONDS = 30 * 86_400
"""Seconds for which a retracted event is not accepted again."""


def digest(source: str, id: str) -> bytes:
    """What is kept of a retracted event."""
    return hashlib.blake2b(f"{source}\x1f{id}".encode(), digest_size=16).digest()


async def find_retracted(config: StoreConfig, tenant: str, events: Sequence[Event]) -> list[int]:
    """The indexes of those events that were retracted in the past `KEPT_SECONDS`."""
    client, key, now = async_redis(config.events), keys.retracted(tenant), time.time()
    found: list[int] = []
    with translate_errors():
        for start in range(0, len(events), PAGE):
            digests = [digest(event.source, event.id) for event in events[start : start + PAGE]]
            expiries = await client.zmscore(key, digests)
            found += [start + n for n, expiry in enumerate(expiries) if (expiry or 0) > now]
    return found
