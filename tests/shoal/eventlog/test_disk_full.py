"""The disk under the event log is full, and then it is not."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shoal import Event, Unavailable
from shoal.eventlog.event_store import EventStore
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.testing.servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def server(disk: Path) -> Iterator[RedisServer]:
    server = RedisServer(disk, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


@pytest.fixture
def enlarge(disk: Path) -> Callable[[], object]:
    return lambda: subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)


async def test_a_full_disk_loses_nothing_that_was_accepted(
    server: RedisServer, enlarge: Callable[[], object], tenant: str
):
    config = StoreConfig(online=server.url, vectors="/none", lake="/none")
    store, accepted = EventStore(config, tenant), list[str]()
    with pytest.raises(Unavailable):
        for number in range(1_000):
            await store.append([Event(id=str(number), type="x", data="y" * 20_000)])
            accepted.append(str(number))
    assert accepted
    with pytest.raises(Unavailable):
        await store.append([Event(id="refused", type="x")])
    enlarge()
    if server.process.poll() is not None:  # with `always`, Redis ends: `shoal up` starts it
        server.start()
    found = [event.id async for _, event in store.read()]
    assert found[: len(accepted)] == accepted
    await store.append([Event(id="later", type="x")])
    await close_connections()
