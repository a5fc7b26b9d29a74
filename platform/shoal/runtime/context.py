"""What every process of the platform holds: the configuration, the plugins, the
directory, and doors for any tenant.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
from pydantic import ValidationError

from shoal.contract.capability import Capability, Job, Stream
from shoal.contract.context import Operations, TenantContext
from shoal.contract.errors import Invalid, NotFound, ShoalError, Unavailable
from shoal.contract.operations import Call, Operation, decode, operations
from shoal.contract.stores import Stores
from shoal.router.credentials import mint_internal
from shoal.router.middleware import Router
from shoal.router.service_context import service_context
from shoal.stores.configuration import StoreConfig
from shoal.stores.erasure import erase
from shoal.tenants.directory import Directory
from shoal.tenants.tenant_stores import open_stores

from . import plugins, status
from .backends import BackendStub
from .configuration import Config

log = logging.getLogger("shoal.runtime")
M = TypeVar("M")


class PlatformContext:
    """One per process; made from the file that `SHOAL_RUNTIME` names, else from the
    configuration.
    """

    def __init__(self, config: Config) -> None:
        secret = config.router.internal_secret
        if config.stores is None or secret is None:
            raise Invalid(
                "this process was given neither SHOAL_RUNTIME nor SHOAL_STORES__… and SHOAL_ROUTER__INTERNAL_SECRET"
            )
        self.config = config
        self.stores: StoreConfig = config.stores
        self.secret = secret.get_secret_value()
        self.plugins = plugins.installed(config.disabled)
        self._operations: dict[str, dict[str, Operation]] = {}

    @classmethod
    @cache
    def current(cls) -> Self:
        path = os.environ.get("SHOAL_RUNTIME")
        return cls(Config(**orjson.loads(Path(path).read_bytes())) if path else Config.load())

    def directory(self) -> Directory:
        """A new directory client; whoever follows changes with it keeps it. It lies on
        the events' Redis, which is durable at each write: a revocation that was
        answered must survive a power cut.
        """
        return Directory(self.stores.events)

    def open_stores(self, tenant: str) -> Stores:
        return open_stores(self.stores, tenant)

    # Capabilities

    def capability(self, name: str) -> Capability:
        from shoal.api.administration import platform_capability

        if name == "platform":
            return platform_capability(self)
        try:
            return self.plugins.capabilities[name]
        except KeyError:
            raise NotFound(f"no capability {name!r} is installed") from None

    def job(self, name: str) -> tuple[Capability, Job]:
        """The job called `<capability>.<job>`."""
        capability, _, job = name.partition(".")
        for candidate in (*self.plugins.capabilities.values(), self.capability("platform")):
            if candidate.name == capability:
                for found in candidate.jobs:
                    if found.name == job:
                        return candidate, found
        raise NotFound(f"no job {name!r}; there are {', '.join(sorted(self.jobs()))}")

    def jobs(self) -> dict[str, Job]:
        every = (*self.plugins.capabilities.values(), self.capability("platform"))
        return {f"{c.name}.{j.name}": j for c in every for j in c.jobs}

    def streams(self) -> dict[str, tuple[Capability, Stream]]:
        """The streams by their consumer group, `<capability>.<stream>`."""
        return {
            f"{capability.name}.{stream.name}": (capability, stream)
            for capability in self.plugins.capabilities.values()
            for stream in capability.streams
        }

    def services(self, capability: str) -> "PlatformServices":
        return PlatformServices(self, capability)

    def router(self, app: Any, capability: Capability) -> Router:
        return Router(
            app,
            capability=capability,
            directory=self.directory(),
            services=self.services(capability.name),
            open_stores=self.open_stores,
            operations=self.operations,
            purge_if_erased=self.purge_if_erased,
            settings=self.config.router,
        )

    # Callers that are not requests

    async def tenants(self) -> list[str]:
        """The ids of all tenants."""
        return await self.directory().tenant_ids()

    async def purge_if_erased(self, *tenants: str, directory: Directory | None = None) -> None:
        """To be called at the end of work for these tenants: what it wrote of one that
        was erased meanwhile is erased too.
        """
        own = directory or self.directory()
        try:
            for tenant in tenants:
                if await own.is_erased(tenant):
                    await erase(self.stores, tenant)
        except ShoalError:
            log.exception("what late work may have left of an erased tenant could not be erased")

    async def context(
        self, tenant: str, capability: str, directory: Directory | None = None
    ) -> TenantContext:
        """The capability itself, working for a tenant: role admin, all boards. For jobs
        and streams.
        """
        return await service_context(
            tenant,
            directory=directory or self.directory(),
            stores=self.open_stores(tenant),
            services=self.services(capability),
            operations=self.operations,
            capability=capability,
        )

    async def states(self) -> dict[str, dict[str, Any]]:
        """What Serve says of each application: see `status.applications_now`."""
        return await asyncio.to_thread(status.applications_now)

    # One capability calling another

    def operations(self, name: str, caller: TenantContext) -> Operations | None:
        if name != "platform" and name not in self.plugins.capabilities:
            return None
        return RemoteOperations(self, name, caller)

    async def call_application(self, name: str, call: Call, headers: dict[str, str]) -> Any:
        from ray import serve
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import (
            BackPressureError,
            DeploymentUnavailableError,
            RayServeException,
        )

        try:
            handle = serve.get_deployment_handle("ingress", app_name=name)
            status, found, body = await handle.call_application.remote(
                call, {**headers, **dict(call.headers)}
            )
        except (
            RayActorError,
            BackPressureError,
            DeploymentUnavailableError,
            RayServeException,
        ) as error:
            raise Unavailable(
                f"the capability {name} is away: {type(error).__name__}", retry_after=1
            ) from error
        return decode(status, found.get("content-type", ""), body)

    async def known_operations(self, name: str) -> dict[str, Operation]:
        if name not in self._operations:
            self._operations[name] = operations(
                await self.call_application(name, Call("GET", f"/{name}/openapi.json"), {})
            )
        return self._operations[name]

    def close(self) -> None:
        """Let the doors of this process go."""


class RemoteOperations:
    """The operations of a deployed capability, called as the same caller."""

    def __init__(self, platform: PlatformContext, name: str, caller: TenantContext) -> None:
        self._platform, self._name, self._caller = platform, name, caller

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        if operation.startswith("__"):
            raise AttributeError(operation)

        async def call(**arguments: Any) -> Any:
            known = await self._platform.known_operations(self._name)
            if operation not in known:
                raise NotFound(
                    f"{self._name} has no operation {operation!r}; it has {', '.join(sorted(known))}"
                )
            caller = self._caller
            token = mint_internal(
                self._platform.secret,
                tenant=caller.tenant,
                role=caller.role,
                user=caller.user,
                ttl=60,
            )
            headers = {"authorization": f"Bearer {token}", "x-request-id": caller.request_id}
            return await self._platform.call_application(
                self._name, known[operation].call(arguments), headers
            )

        return call


class PlatformServices:
    """The `Services` of one capability in this process."""

    def __init__(self, platform: PlatformContext, capability: str) -> None:
        self._platform, self._capability = platform, capability

    def settings(self, model: type[M]) -> M:
        try:
            return model(**self._platform.config.capabilities.get(self._capability, {}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"])
            raise Invalid(
                f"capabilities.{self._capability}.{where} in the configuration: {first['msg']}"
            ) from error

    def backend(self, name: str) -> Any:
        for spec in self._platform.capability(self._capability).backends:
            if spec.name == name:
                return BackendStub(spec, self._capability)
        raise NotFound(f"{self._capability} has no backend {name!r}")
