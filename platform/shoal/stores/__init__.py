"""Tenant-bound doors to Redis, Milvus, the lake and the event log.

stores = open_stores(StoreConfig(online="redis://…", vectors="http://…", lake="/data/lake"), "acme")
await stores.online.hmget(("user", "123"), ["boards_30d"])
"""

from dataclasses import dataclass

from .config import StoreConfig
from .connections import close_connections
from .erase import erase
from .events import EventsDoor
from .lake import LakeDoor
from .log import DeadLetter, EventLog, GroupState
from .online import OnlineDoor
from .vectors import VectorsDoor


@dataclass(frozen=True, slots=True)
class TenantStores:
    """The four doors of one tenant. They connect on first use, one pool per process, event loop and URI, and can be pickled."""

    online: OnlineDoor
    vectors: VectorsDoor
    lake: LakeDoor
    events: EventsDoor


def open_stores(config: StoreConfig, tenant: str) -> TenantStores:
    """The doors of one tenant. ValueError when `tenant` is no tenant's id."""
    return TenantStores(
        OnlineDoor(config, tenant),
        VectorsDoor(config, tenant),
        LakeDoor(config, tenant),
        EventsDoor(config, tenant),
    )


__all__ = [
    "DeadLetter",
    "EventLog",
    "GroupState",
    "StoreConfig",
    "TenantStores",
    "close_connections",
    "erase",
    "open_stores",
]
