"""Real servers, started once for these tests; every test has tenants of its own."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import close_connections
from shoal.tenants.tenant_stores import TenantStores, open_stores


@pytest.fixture(scope="session")
def config(shoal_servers: StoreConfig) -> StoreConfig:
    """Where Redis, Milvus Lite, the lake and the event log of these tests are."""
    return shoal_servers


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


NURSERY = """
import json, os, signal, sys
import shoal.stores, shoal.eventlog.archive, shoal.stores.lake
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    given = json.loads(line)
    pid = os.fork()
    if pid == 0:
        sys.argv = ["", *given["arguments"]]
        try:
            exec(given["code"], {"__name__": "__main__"})
        finally:
            os._exit(1)
    print(pid, flush=True)
"""


class Nursery:
    """Starts processes that have Shoal imported already, to be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.children: list[int] = []

    def start(self, code: str, *arguments: str) -> int:
        """The id of a process that runs the code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"code": code, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        self.children.append(int(self.process.stdout.readline()))
        return self.children[-1]

    def alive(self, pid: int) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    for pid in made.children:
        if made.alive(pid) and psutil.Process(pid).ppid() == made.process.pid:
            made.kill(pid)
    made.process.communicate()
