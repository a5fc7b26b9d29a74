"""What changed of a tenant: read once for all its open pages, from the stores' marks.

A mark is a value that a store already keeps and that changes with what it stands for:
the version of the tenant's entry in the directory, the time of its last event, the id
of its last audit entry (every write through the API has one), its last job runs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from shoal.eventlog import keys as event_keys
from shoal.runtime.job_runs import ALL, FINISHED
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, translate_errors
from shoal.tenants.keyspace import CHANGES, audit_key
from shoal.tenants.records import PLATFORM


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a tenant.

    Attributes:
        access: Of its keys, roles, users, parameters and limits, and of the operator's.
        data: Of its events, writes and job runs.
    """

    access: tuple[Any, ...]
    data: tuple[Any, ...]


class ChangeMarks:
    """Reads the marks of tenants.

    Args:
        stores: Where the directory, the event log and the job runs are.
    """

    def __init__(self, stores: StoreConfig) -> None:
        self._stores = stores

    async def read(self, tenants: Collection[str]) -> dict[str, Marks]:
        """The marks of each tenant, in one round trip for each Redis.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        names = sorted(tenants)
        with translate_errors():
            events = async_redis(self._stores.events).pipeline(transaction=False)
            online = async_redis(self._stores.online).pipeline(transaction=False)
            events.zscore(CHANGES, PLATFORM)
            online.zrevrange(ALL, 0, 0)
            online.zrevrange(f"{FINISHED}:", 0, 0)
            for name in names:
                events.zscore(CHANGES, name)
                events.zscore(event_keys.TENANTS, name)
                events.xrevrange(audit_key(name), count=1)
                online.zrevrange(f"{ALL}:{name}", 0, 0)
                online.zrevrange(f"{FINISHED}:{name}", 0, 0)
            operator, *of_events = await events.execute()
            latest, finished, *of_runs = await online.execute()
        found = {}
        for i, name in enumerate(names):
            changed, appended, audited = of_events[3 * i : 3 * i + 3]
            last_audited = audited[0][0] if audited else None
            runs = (*latest, *finished, *of_runs[2 * i], *of_runs[2 * i + 1])
            found[name] = Marks((operator, changed), (changed, appended, last_audited, *runs))
        return found
