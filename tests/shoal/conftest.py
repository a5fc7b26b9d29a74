"""Real servers, stores of a tenant, processes to kill, and a capability behind a
Router.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from shoal import Capability, Egress, Event, NotFound, Parameters, TenantContext, requires
from shoal.router.fast_path import fast_path
from shoal.router.middleware import Router
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights
from shoal.router.settings import RouterSettings
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.directory import Directory
from shoal.tenants.tenant_stores import TenantStores, open_stores
from shoal.tenants.usage_meter import UsageMeter
from shoal.testing.servers import RedisServer

from ..redis_engines import Engines

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp)
    yield engines
    engines.stop()


@pytest.fixture(scope="session")
def redis_cluster(redis_engines: Engines) -> str:
    """The URI of a Redis Cluster of three masters with replicas."""
    return redis_engines["cluster"].uri


@pytest.fixture
async def directory(redis_server: RedisServer) -> AsyncIterator[Directory]:
    redis_server.client.flushall()
    directory = Directory(redis_server.url)
    yield directory
    await close_connections()


class Log:
    """An event log in memory: what the router appends to it is what these tests look
    at.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.fault: Exception | None = None

    async def append(self, events: list[Event]) -> list[str]:
        if self.fault is not None:
            raise self.fault
        self.events += events
        return [str(len(self.events))]


class Item(BaseModel):
    text: str = Field(min_length=1)
    weight: float = Field(1.0, allow_inf_nan=False)


class GreetingParameters(Parameters):
    warmth: float = Field(0.5, ge=0, le=1)
    tone: str = "plain"


def routes(services: Any) -> APIRouter:
    router = APIRouter()
    items: dict[tuple[str, str], Item] = {}

    @router.get("/who")
    async def who(ctx: TenantContext = Depends(requires("read:own"))) -> Any:
        boards = None if ctx.boards is None else sorted(ctx.boards)
        return {
            "tenant": ctx.tenant,
            "role": ctx.role,
            "rights": sorted(ctx.rights),
            "user": ctx.user,
            "boards": boards,
            "request_id": ctx.request_id,
            "variants": ctx.variants,
        }

    @router.get("/warmth")
    async def warmth(ctx: TenantContext = Depends(requires("read:own"))) -> Any:
        return ctx.parameters(GreetingParameters)

    @router.get("/items/{item}")
    async def get_item(item: str, ctx: TenantContext = Depends(requires("read:own"))) -> Item:
        if (ctx.tenant, item) not in items:
            raise NotFound(f"no item {item!r}")
        return items[ctx.tenant, item]

    @router.put("/items/{item}")
    async def put_item(
        item: str, body: Item, note: str = "", ctx: TenantContext = Depends(requires("write:own"))
    ) -> Any:
        items[ctx.tenant, item] = body
        return {}

    @router.post("/read")
    async def read(ids: list[str], ctx: TenantContext = Depends(requires("read:own"))) -> Any:
        return {"count": len(ids)}

    @router.post("/operate")
    async def operate(ctx: TenantContext = Depends(requires("admin:tenant"))) -> Any:
        return {}

    @router.post("/bare", dependencies=[Depends(requires("write:own"))])
    async def bare() -> Any:
        return {}

    @router.post("/raw", dependencies=[Depends(requires("write:own"))])
    async def raw(request: Request) -> Any:
        return {"length": len(await request.body())}

    @router.get("/boom", dependencies=[Depends(requires("read:own"))])
    async def boom() -> Any:
        raise RuntimeError("the secret is 1234")

    @router.get("/nan", dependencies=[Depends(requires("read:own"))])
    async def nan() -> Any:
        return {"value": float("nan")}

    @router.get("/slow", dependencies=[Depends(requires("read:own"))])
    async def slow(seconds: float = 0.3) -> Any:
        await asyncio.sleep(seconds)
        return {}

    @router.get("/stream", dependencies=[Depends(requires("read:own"))])
    async def stream() -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(4):
                await asyncio.sleep(0.1)
                yield b"x"

        return StreamingResponse(chunks())

    return router


CAPABILITY = Capability("greeting", "Says hello.", routes=routes, parameters=GreetingParameters)


class World:
    """Two tenants with keys, and a capability behind a Router."""

    def __init__(self, directory: Directory, folder: Path, **settings: Any) -> None:
        self.directory = directory
        self.usage = UsageMeter(directory, folder)
        self.logs: dict[str, Log] = {}
        self.keys: dict[str, str] = {}
        self.asked: list[tuple[str, TenantContext]] = []
        self.purged: list[str] = []
        self.routes = router = routes(None)
        enforce_rights(router)
        self.app = FastAPI(
            openapi_url="/greeting/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.app.include_router(router, prefix="/greeting")
        install_problem_handlers(self.app)
        self.settings = RouterSettings(
            **{"internal_secret": SECRET, "poll_seconds": 0.1, **settings}
        )
        self.router = self.new_router()
        self.client = self.connect(self.router)

    def new_router(self, directory: Directory | None = None) -> Router:
        return Router(
            fast_path(self.app, self.routes, "/greeting"),
            capability=CAPABILITY,
            directory=directory or self.directory,
            services=SimpleNamespace(egress=Egress()),  # type: ignore[arg-type]
            open_stores=self.open_stores,
            operations=lambda name, ctx: self.asked.append((name, ctx)),
            purge_if_erased=self.purge_if_erased,
            usage=self.usage,
            settings=self.settings,
        )

    @staticmethod
    def connect(app: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://shoal/greeting"
        )

    async def purge_if_erased(self, tenant: str) -> None:
        self.purged.append(tenant)

    def open_stores(self, tenant: str) -> Any:
        return SimpleNamespace(events=self.logs.setdefault(tenant, Log()))

    async def call(
        self,
        method: str,
        path: str,
        key: str | None = "acme-editor",
        headers: Any = None,
        **options: Any,
    ) -> httpx.Response:
        headers = dict(headers or {})
        if key is not None:
            headers["authorization"] = f"Bearer {self.keys.get(key, key)}"
        return await self.client.request(method, path, headers=headers, **options)

    async def get(
        self, path: str, key: str | None = "acme-editor", **options: Any
    ) -> httpx.Response:
        return await self.call("GET", path, key, **options)

    async def __aenter__(self) -> "World":
        for tenant in ("acme", "globex"):
            await self.directory.create_tenant(tenant)
            for role in ("reader", "editor", "admin"):
                _, self.keys[f"{tenant}-{role}"] = await self.directory.create_key(tenant, role)
        await self.router.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.router.stop()


@pytest.fixture
async def new_world(directory: Directory, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    worlds: list[World] = []

    async def make(**settings: Any) -> World:
        worlds.append(World(directory, tmp_path, **settings))
        return await worlds[-1].__aenter__()

    yield make
    for world in worlds:
        await world.__aexit__()


@pytest.fixture
async def world(new_world: Callable[..., Any]) -> World:
    return await new_world()  # type: ignore[no-any-return]


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem in a response, which must be one, and of this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"] and body["detail"]
    return body


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
    yield open_stores(config, tenant, "notes")
    await close_connections()


@pytest.fixture
def unreachable(tmp_path: Path) -> StoreConfig:
    """Stores whose servers do not run."""
    return StoreConfig(
        online="redis://127.0.0.1:1/0", vectors="http://127.0.0.1:1", lake="/proc/none"
    )


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
    """Starts processes that have Shoal imported already, to be killed.

    Args:
        modules: Others that they have imported.
    """

    def __init__(self, *modules: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "".join(f"import {m}\n" for m in modules) + NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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

    def close(self) -> None:
        for pid in self.children:
            if self.alive(pid) and psutil.Process(pid).ppid() == self.process.pid:
                self.kill(pid)
        self.process.communicate()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="session")
def redis_url(shoal_servers: StoreConfig) -> str:
    """A Redis, the way `shoal up` starts it."""
    return shoal_servers.online
