"""The ledger equals the traffic, although its servers are killed again and again.

Two replicas serve on a real Redis and are killed with SIGKILL at random moments, five
times; `make test-kills` does so a hundred times. The clients count what is answered.
Of the tenant `quiet` no request is in progress at a kill, so its usage must be equal to
the unit. Of `busy` some are: what was not answered may have been counted.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from shoal.stores.connections import close_connections
from shoal.tenants.directory import Directory
from shoal.tenants.usage_ledger import today
from shoal.tenants.usage_meter import UsageMeter
from shoal.testing.servers import RedisServer, free_port

from ..conftest import Nursery

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

KILLS = int(os.environ.get("SHOAL_KILLS", "5"))
MODULES = ("uvicorn", "shoal.testing.local_platform", "shoal.api.capability")
SERVER = """
import asyncio, sys
import uvicorn
from fastapi import APIRouter, Depends, Request
from shoal import Capability, TenantContext, requires
from shoal.runtime.configuration import Config
from shoal.tenants import usage_meter
from shoal.testing.local_platform import LocalPlatform

# Often, so that many kills meet a flush, a collection or another journal's beginning.
usage_meter.TICK_SECONDS, usage_meter.FLUSH_SECONDS = 0.02, 0.05
usage_meter.COLLECT_SECONDS = 0.1
url, folder, port = sys.argv[1:4]

def routes(services):
    router = APIRouter()

    @router.put("/items/{count}")
    async def put_items(count: int, ctx: TenantContext = Depends(requires("write:own"))):
        ctx.usage.require("items", count)
        await ctx.stores.online.incrby(("stored",), count)
        ctx.usage.add("items", count)
        return {}

    return router

config = Config.load(
    data=folder,
    stores={"online": url, "vectors": "http://127.0.0.1:1", "lake": f"{folder}/lake"},
    router={"internal_secret": "x" * 32},
)
platform = LocalPlatform(config, [Capability("shelf", "Keeps items.", routes=routes)])
platform.build_applications()

async def app(scope, receive, send):
    await platform.apps[scope["path"].split("/")[1]](scope, receive, send)

uvicorn.run(app, port=int(port), log_level="warning", lifespan="off", interface="asgi3")
"""


class Replicas:
    """Two servers, of which one at a time is replaced."""

    def __init__(self, nursery: Nursery, url: str, folder: Path) -> None:
        self._nursery, self._url, self._folder = nursery, url, folder
        self.servers = [self._start() for _ in range(2)]
        for server in self.servers:
            self.wait(server)

    def _start(self) -> tuple[int, int]:
        port = free_port()
        return self._nursery.start(SERVER, self._url, str(self._folder), str(port)), port

    @staticmethod
    def wait(server: tuple[int, int]) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{server[1]}/shelf/healthz")
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.02)

    def kill_one(self, number: int) -> None:
        pid, _ = self.servers[number]
        self._nursery.kill(pid)
        self.servers[number] = self._start()
        self.wait(self.servers[number])


class Traffic:
    """A tenant's clients, and what they were answered."""

    def __init__(self, replicas: Replicas, key: str, seed: int) -> None:
        self.answered: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.turn = threading.Lock()
        """Held during a request."""
        self._replicas, self._key, self._random = replicas, key, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        with httpx.Client(headers={"authorization": f"Bearer {self._key}"}) as client:
            while not self._stop.is_set():
                with self.turn:
                    self._send_one(client)
                time.sleep(0)  # lets the killer have the turn

    def _send_one(self, client: httpx.Client) -> None:
        count, kind = self._random.randint(1, 5), self._random.choice(["items", "events"])
        base = f"http://127.0.0.1:{self._random.choice(self._replicas.servers)[1]}"
        try:
            if kind == "items":
                response = client.put(f"{base}/shelf/items/{count}")
            else:
                events = [{"type": "x"} for _ in range(count)]
                response = client.post(f"{base}/platform/events", json=events)
        except httpx.TransportError as error:
            if not isinstance(error, httpx.ConnectError):
                self.unanswered.update({"requests": 1, kind: count})
            return
        assert response.status_code in (200, 202), response.text
        self.answered.update({"requests": 1, kind: count})


@pytest.fixture
def servers() -> Iterator[Nursery]:
    nursery = Nursery(*MODULES)
    yield nursery
    nursery.close()


async def test_usage_equals_the_traffic_after_kills(
    servers: Nursery, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client.flushall()
    directory = Directory(redis_server.url)
    keys = {}
    for tenant in ("quiet", "busy"):
        await directory.create_tenant(tenant)
        keys[tenant] = (await directory.create_key(tenant, "editor"))[1]
    replicas, dice = Replicas(servers, redis_server.url, tmp_path), random.Random(1)
    traffic = {t: Traffic(replicas, key, n) for n, (t, key) in enumerate(keys.items())}
    for _ in range(KILLS):
        time.sleep(dice.uniform(0, 0.3))
        with traffic["quiet"].turn:
            replicas.kill_one(dice.randrange(2))
    for sending in traffic.values():
        sending.stop()
    for pid, _ in replicas.servers:
        servers.kill(pid)
        while psutil.pid_exists(pid):  # a zombie's threads may still hold its lock
            time.sleep(0.01)

    meter = UsageMeter(directory, tmp_path / "usage")
    await meter.collect()
    assert not list((tmp_path / "usage").iterdir())
    ledger = {tenant: Counter[str]() for tenant in keys}
    for tenant in keys:
        for used in await meter.ledger.read(tenant, [today()]):
            ledger[tenant].update(used.counts)
    print({t: (dict(x.answered), dict(x.unanswered), ledger[t]) for t, x in traffic.items()})
    quiet, busy = traffic["quiet"], traffic["busy"]
    assert quiet.unanswered == {}
    assert ledger["quiet"] == quiet.answered
    assert busy.answered <= ledger["busy"] <= busy.answered + busy.unanswered
    for tenant, sending in traffic.items():
        assert sending.answered["requests"] > KILLS
        # What was stored is between what was counted and what was sent.
        stored = {
            "items": int(redis_server.client.get(f"{tenant}:shelf:stored") or 0),  # type: ignore[arg-type]
            "events": redis_server.client.xlen(f"@events:{{{tenant}}}"),
        }
        for kind, count in stored.items():
            sent = sending.answered[kind] + sending.unanswered[kind]
            assert ledger[tenant][kind] <= count <= sent
    await close_connections()
