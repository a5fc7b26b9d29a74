"""Tenant-bound doors to Redis, Milvus, the lake and the event log.

stores = open_stores(StoreConfig(online="redis://…", vectors="http://…", lake="/data/lake"), "acme")
await stores.online.hmget(("user", "123"), ["boards_30d"])
"""

from .config import StoreConfig
from .connections import close_connections
from .erasure import erase
from .log import DeadLetter, EventLog, GroupState
from .tenant_stores import TenantStores, open_stores

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
