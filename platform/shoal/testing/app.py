"""Capabilities in one process, with the same Router and stores as on Ray."""

import asyncio
import inspect
import tempfile
import threading
import time
from collections.abc import Awaitable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import uvicorn
from pydantic import SecretStr

from shoal.client.http import AsyncClient, Client
from shoal.contract.capability import Capability
from shoal.contract.context import TenantContext
from shoal.contract.errors import Conflict, NotFound
from shoal.contract.events import Event, Rejection
from shoal.egress.egress import Egress
from shoal.router.settings import RouterSettings
from shoal.runtime import plugins
from shoal.runtime.configuration import Config
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections

from .local_platform import LocalPlatform
from .servers import free_port

T = TypeVar("T")
SECRET = "for tests only, of this process alone"


class LocalJobRun:
    """The `JobContext` of a test; `steps` are the calls of `progress`."""

    def __init__(self, tenants: Sequence[TenantContext], arguments: Mapping[str, Any]) -> None:
        self.run_id, self.tenants, self.arguments = "test", tenants, arguments
        self.scheduled_for = datetime.now(UTC)
        self.steps: list[tuple[float, float, str]] = []

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.steps.append((done, total, message))


class CapabilityApp:
    """Some capabilities, served by uvicorn in a thread.

    A tenant, or a key, is created when it is first used.

    Args:
        stores: The URIs of the stores.
        names: The installed capabilities to serve.
        settings: The configuration of each capability, by name.
        capabilities: More capabilities to serve, which need not be installed.
        router: `RouterSettings`, such as limits.
        egress: Where the capabilities may connect to.
    """

    def __init__(
        self,
        stores: StoreConfig,
        names: Sequence[str],
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        capabilities: Sequence[Capability] = (),
        router: Mapping[str, Any] | None = None,
        egress: Egress | None = None,
    ) -> None:
        options = RouterSettings(**{"internal_secret": SecretStr(SECRET), **(router or {})})
        port = free_port()
        self._data = tempfile.TemporaryDirectory(prefix="shoal-app-")
        config = Config.load(
            port=port,
            data=self._data.name,
            stores=stores,
            router=options,
            egress=egress,
            capabilities={k: dict(v) for k, v in (settings or {}).items()},
        )
        installed = plugins.installed(config.disabled)
        if missing := [name for name in names if name not in installed.capabilities]:
            causes = "; ".join(f"{p.plugin} failed to load: {p.cause}" for p in installed.problems)
            raise LookupError(f"no installed capability is named {', '.join(missing)}. {causes}")
        served = [*(installed.capabilities[name] for name in names), *capabilities]
        self.platform = LocalPlatform(config, served)
        self.address = f"http://127.0.0.1:{port}"
        self.tenants: list[str] = []
        self._keys: dict[tuple[str, str, str | None], str] = {}
        self.loop = asyncio.new_event_loop()
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
        asyncio.set_event_loop(self.loop)

        async def main() -> None:
            self.platform.build_applications()
            await self._server.serve()
            await self.platform.stop_applications()
            await close_connections()

        try:
            self.loop.run_until_complete(main())
        finally:
            self.loop.close()

    async def _app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        name = scope["path"].split("/")[1] if scope["type"] == "http" else ""
        app = self.platform.apps.get(name)
        if app is None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    def document(self, name: str) -> dict[str, Any]:
        """The OpenAPI document of a capability."""
        found: dict[str, Any] = httpx.get(f"{self.address}/{name}/openapi.json").json()
        return found

    def run(self, coroutine: Awaitable[T]) -> T:
        """Run a coroutine on the event loop that serves."""

        async def wait() -> T:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(60)

    def key(self, tenant: str, role: str = "editor", user: str | None = None) -> str:
        """An API key of a tenant, with a role, and of a user if one is named."""
        if tenant not in self.tenants:
            with suppress(Conflict):  # another app of these tests has created it
                self.run(self.platform.directory.create_tenant(tenant))
            self.tenants.append(tenant)
        if (tenant, role, user) not in self._keys:
            self._keys[tenant, role, user] = self.run(
                self.platform.directory.create_key(tenant, role, user=user)
            )[1]
        return self._keys[tenant, role, user]

    def client(self, tenant: str = "acme", role: str = "editor", user: str | None = None) -> Client:
        return Client(self.address, self.key(tenant, role, user), retries=0)

    def async_client(
        self, tenant: str = "acme", role: str = "editor", user: str | None = None
    ) -> AsyncClient:
        return AsyncClient(self.address, self.key(tenant, role, user), retries=0)

    def context(self, tenant: str, capability: str) -> TenantContext:
        """The context that a capability's jobs and streams get for a tenant."""
        self.key(tenant)
        return self.run(self.platform.context(tenant, capability))

    def members(self, board: str, users: Sequence[str], tenant: str = "acme") -> None:
        """Set the users who may see a board."""
        self.client(tenant).platform.put_members(board=board, users=list(users))

    def stream(
        self,
        name: str,
        events: Sequence[Event | Mapping[str, Any]],
        tenant: str = "acme",
    ) -> list[Rejection]:
        """Have a stream (`<capability>.<stream>`) handle events, as a worker would.

        Returns:
            What it rejected.
        """
        given = [e if isinstance(e, Event) else Event(**e) for e in events]
        capability, stream = self.platform.streams()[name]
        context = replace(self.context(tenant, capability.name), rejections=[])
        self.run(stream.handle(context, given))
        return context.rejections or []

    def job(self, name: str, tenant: str = "acme", **arguments: Any) -> tuple[Any, LocalJobRun]:
        """Run a job (`<capability>.<job>`) in this process.

        Returns:
            The job's result, and the run with its progress.
        """
        capability, job = self.platform.job(name)
        run = LocalJobRun([self.context(tenant, capability.name)], arguments)
        if inspect.iscoroutinefunction(job.run):
            return self.run(job.run(run)), run
        return job.run(run), run

    def close(self) -> None:
        """Erase the tenants that were created, and stop."""

        async def erase(tenant: str) -> None:
            with suppress(NotFound):
                await self.platform.erase_tenant(tenant)

        async def erase_all() -> None:
            await asyncio.gather(*map(erase, self.tenants))

        self.run(erase_all())
        self._server.should_exit = True
        self._thread.join(20)
        self._data.cleanup()
