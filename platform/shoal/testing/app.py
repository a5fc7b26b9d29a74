"""Capabilities served by uvicorn in a thread: the same applications, Router and stores
as on Ray, in one process.
"""

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import uvicorn
from pydantic import SecretStr

from shoal.api.capability import platform_capability
from shoal.client.http import AsyncClient, Client
from shoal.contract.capability import Capability
from shoal.contract.context import Role, TenantContext
from shoal.contract.errors import Conflict, NotFound
from shoal.contract.events import Event
from shoal.contract.operations import OperationRequest, decode
from shoal.router.settings import RouterSettings
from shoal.runtime import plugins
from shoal.runtime.configuration import Config
from shoal.runtime.context import PlatformContext, PlatformServices
from shoal.runtime.ingress import application, call_application
from shoal.runtime.plugins import Plugins
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections

T = TypeVar("T")
SECRET = "for tests only, of this process alone"


class LocalPlatform(PlatformContext):
    """A platform whose backends and capabilities are objects of this process, without Ray."""

    def __init__(self, config: Config, names: Sequence[str], more: Sequence[Capability]) -> None:
        installed = plugins.installed(config.disabled)
        own = {n: installed.capabilities[n] for n in names} | {c.name: c for c in more}
        served = Plugins(installed.manager, own, installed.origins)
        super().__init__(config, served, platform_capability)
        self.apps: dict[str, Any] = {}
        self._backends: dict[tuple[str, str], Any] = {}

    def services(self, capability: str) -> "PlatformServices":
        return LocalServices(self, capability)

    def backend(self, capability: str, name: str) -> Any:
        if (capability, name) not in self._backends:
            spec = next(b for b in self.capability(capability).backends if b.name == name)
            self._backends[capability, name] = LocalStub(
                spec.build(self.services(capability)), spec.batch
            )
        return self._backends[capability, name]

    async def states(self) -> dict[str, dict[str, Any]]:
        return {name: {"status": "RUNNING", "message": ""} for name in self.apps}

    async def call_application(
        self, name: str, call: OperationRequest, headers: dict[str, str]
    ) -> Any:
        status, found, body = await call_application(
            self.apps[name], call, {**headers, **dict(call.headers)}
        )
        return decode(status, found.get("content-type", ""), body)


class LocalServices(PlatformServices):
    def backend(self, name: str) -> Any:
        super().backend(name)  # refuses what there is not
        return self._platform.backend(self._capability, name)  # type: ignore[attr-defined]


class LocalStub:
    """Calls an object the way a stub calls a backend's replica: a batched method gets a
    list.
    """

    def __init__(self, target: Any, batch: str | None) -> None:
        self._target, self._batch = target, batch

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        function = getattr(self._target, method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if method == self._batch:
                args = ([args[0]],)
            value = (
                await function(*args, **kwargs)
                if inspect.iscoroutinefunction(function)
                else await asyncio.to_thread(function, *args, **kwargs)
            )
            return value[0] if method == self._batch else value

        return call


class JobRun:
    """The JobContext of a job that a test runs."""

    def __init__(self, tenants: Sequence[TenantContext], arguments: Mapping[str, Any]) -> None:
        self.run_id, self.tenants, self.arguments = "test", tenants, arguments
        self.scheduled_for = datetime.now(UTC)
        self.steps: list[tuple[float, float, str]] = []

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.steps.append((done, total, message))


class CapabilityApp:
    """Some capabilities, served. `client(tenant)` makes the tenant at its first use."""

    def __init__(
        self,
        stores: StoreConfig,
        names: Sequence[str],
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        capabilities: Sequence[Capability] = (),
        router: Mapping[str, Any] | None = None,
    ) -> None:
        """`settings` are those of each capability; `capabilities` are served beside the
        installed `names`; `router` are RouterSettings.
        """
        options = RouterSettings(**{"internal_secret": SecretStr(SECRET), **(router or {})})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = Config.load(
            port=port,
            stores=stores,
            router=options,
            capabilities={k: dict(v) for k, v in (settings or {}).items()},
        )
        self.platform = LocalPlatform(config, names, capabilities)
        self.address = f"http://127.0.0.1:{port}"
        self.tenants: list[str] = []
        self._keys: dict[tuple[str, str, str | None], str] = {}
        self._loop = asyncio.new_event_loop()
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                host="127.0.0.1",
                port=port,
                log_level="warning",
                lifespan="off",
                interface="asgi3",
            )
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the capabilities did not start: see the error above")
            time.sleep(0.005)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def main() -> None:
            for name, capability in self.platform.capabilities.items():
                self.platform.apps[name] = application(capability, self.platform)
            await self._server.serve()
            for app in self.platform.apps.values():
                await app.stop()
            await close_connections()

        self._loop.run_until_complete(main())

    async def _app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        app = (
            self.platform.apps.get(scope["path"].split("/")[1]) if scope["type"] == "http" else None
        )
        if app is None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app({**scope, "path": scope["path"].rstrip("/") or "/"}, receive, send)

    def run(self, coroutine: Awaitable[T]) -> T:
        """Run a coroutine on the event loop that serves."""

        async def wait() -> T:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(60)

    def key(self, tenant: str, role: str = "editor", user: str | None = None) -> str:
        """An API key of a tenant; both are made at the first use."""
        if tenant not in self.tenants:
            with suppress(Conflict):  # another app of the same tests has made it
                self.run(self.platform.directory.create_tenant(tenant))
            self.tenants.append(tenant)
        if (tenant, role, user) not in self._keys:
            self._keys[tenant, role, user] = self.run(
                self.platform.directory.create_key(tenant, Role(role), user=user)
            )[1]
        return self._keys[tenant, role, user]

    def client(self, tenant: str = "acme", role: str = "editor", user: str | None = None) -> Client:
        return Client(self.address, self.key(tenant, role, user), retries=0)

    def async_client(
        self, tenant: str = "acme", role: str = "editor", user: str | None = None
    ) -> AsyncClient:
        return AsyncClient(self.address, self.key(tenant, role, user), retries=0)

    def context(self, tenant: str, capability: str) -> TenantContext:
        """The context that a job or a stream of the capability gets for a tenant."""
        self.key(tenant)
        return self.run(self.platform.context(tenant, capability))

    def members(self, board: str, users: Sequence[str], tenant: str = "acme") -> None:
        """Say who may see a board."""
        self.client(tenant).platform.put_members(board=board, users=list(users))

    def stream(
        self,
        name: str,
        events: Sequence[Event | Mapping[str, Any]],
        tenant: str = "acme",
    ) -> None:
        """Have a stream (`<capability>.<stream>`) handle these events, as a worker would."""
        given = [e if isinstance(e, Event) else Event(**e) for e in events]
        capability, stream = self.platform.streams()[name]
        self.run(stream.handle(self.context(tenant, capability.name), given))

    def job(self, name: str, tenant: str = "acme", **arguments: Any) -> tuple[Any, JobRun]:
        """Run a job (`<capability>.<job>`) in this process; its result, and the run
        with its progress.
        """
        capability, job = self.platform.job(name)
        run = JobRun([self.context(tenant, capability.name)], arguments)
        if inspect.iscoroutinefunction(job.run):
            return self.run(job.run(run)), run
        return job.run(run), run

    def close(self) -> None:
        """Erase the tenants that were made, and stop."""

        async def erase(tenant: str) -> None:
            with suppress(NotFound):
                await self.platform.erase_tenant(tenant)

        async def all_of_them() -> None:
            await asyncio.gather(*map(erase, self.tenants))

        self.run(all_of_them())
        self._server.should_exit = True
        self._thread.join(20)
