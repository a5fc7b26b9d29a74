"""Real servers, started once for these tests; every test has tenants of its own."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shoal.embedded import EmbeddedServers
from shoal.stores import StoreConfig, TenantStores, close_connections, open_stores


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    """Where Redis, Milvus Lite, the lake and the event log of these tests are."""
    servers = EmbeddedServers(tmp_path_factory.mktemp("data"))
    yield servers.start()
    servers.stop()


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has."""
    return f"acme-{secrets.token_hex(4)}"


@pytest.fixture
async def stores(config: StoreConfig, tenant: str) -> AsyncIterator[TenantStores]:
    yield open_stores(config, tenant)
    await close_connections()


@pytest.fixture
def away(tmp_path: Path) -> StoreConfig:
    """Stores that are not there."""
    return StoreConfig(online="redis://127.0.0.1:1/0", vectors="http://127.0.0.1:1", lake="/proc/none")
