"""A worker's loops take topics into the log and mirror it, as configured."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shoal.eventlog.redis_log import RedisEventLog
from shoal.runtime.configuration import Config
from shoal.runtime.kafka import kafka_loops
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.testing.servers import RedisServer

from ...kafka_mock import MockKafka


@pytest.mark.anyio
@pytest.mark.integration
async def test_an_event_goes_from_topic_to_topic(redis_server: RedisServer, tenant: str):
    kafka, stop = MockKafka(), asyncio.Event()
    servers = f"kafka://{kafka.address}"
    source = {
        **{"name": "crm", "servers": servers, "topics": ["in"], "tenant": "key"},
        **{"tenants": [tenant], "format": "json", "type": "deal.won", "fields": {"id": "id"}},
    }
    sink = {"name": "out", "servers": servers, "topic": "out", "types": ["deal.*"]}
    stores = StoreConfig(online=redis_server.url, vectors="/none", lake="/none")
    config = Config(sources=[source], sinks=[sink], stores=stores)
    platform: Any = SimpleNamespace(config=config, stores=stores, event_log=RedisEventLog(stores))

    async def tenants() -> list[str]:
        return [tenant]

    loops = kafka_loops(platform, "w", tenants, stop, export=False)
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    kafka.send("in", b'{"id": "d1"}', tenant)
    [(key, value, _)] = await asyncio.to_thread(kafka.read, "out", 1)
    stop.set()
    await asyncio.gather(*tasks)
    assert (key, b'"d1"' in value) == (tenant.encode(), True)
    await close_connections()
