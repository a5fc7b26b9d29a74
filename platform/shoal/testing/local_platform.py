"""A platform in one process, without Ray."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from shoal.api.capability import platform_capability
from shoal.contract.capability import Capability
from shoal.contract.operations import OperationRequest, decode
from shoal.router.middleware import Router
from shoal.runtime import plugins
from shoal.runtime.configuration import Config
from shoal.runtime.context import PlatformContext, PlatformServices
from shoal.runtime.ingress import application, call_application
from shoal.runtime.plugins import Plugins, Problem


class LocalPlatform(PlatformContext):
    """A platform whose applications and backends are objects of this process.

    Args:
        config: Must have the stores' URIs and the router's internal secret.
        capabilities: Those to serve, beside the platform's own.
        problems: Plugins to report as failed.
        statuses: What Serve would say of an application that is not running.
    """

    def __init__(
        self,
        config: Config,
        capabilities: Iterable[Capability],
        problems: Iterable[Problem] = (),
        statuses: Mapping[str, str] | None = None,
    ) -> None:
        installed = plugins.installed(config.disabled)
        served = {capability.name: capability for capability in capabilities}
        found = Plugins(installed.manager, served, installed.origins, list(problems))
        super().__init__(config, found, platform_capability)
        self.apps: dict[str, Router] = {}
        self._statuses = statuses or {}
        self._backends: dict[tuple[str, str], Any] = {}

    def build_applications(self) -> None:
        """Build the application of each capability into `apps`."""
        for name, capability in self.capabilities.items():
            self.apps[name] = application(capability, self)

    async def stop_applications(self) -> None:
        for app in self.apps.values():
            await app.stop()

    def services(self, capability: str) -> PlatformServices:
        return LocalServices(self, capability)

    def backend(self, capability: str, name: str) -> Any:
        if (capability, name) not in self._backends:
            spec = next(b for b in self.capability(capability).backends if b.name == name)
            target = spec.build(self.services(capability))
            self._backends[capability, name] = LocalStub(target, spec.batch)
        return self._backends[capability, name]

    async def states(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"status": self._statuses.get(name, "RUNNING"), "message": ""}
            for name in self.apps
        }

    async def call_application(
        self, name: str, call: OperationRequest, headers: dict[str, str]
    ) -> Any:
        status, found, body = await call_application(
            self.apps[name], call, {**headers, **dict(call.headers)}
        )
        return decode(status, found.get("content-type", ""), body)


class LocalServices(PlatformServices):
    """The `Services` whose backends are objects of this process."""

    def backend(self, name: str) -> Any:
        super().backend(name)  # NotFound where there is none
        assert isinstance(self._platform, LocalPlatform)
        return self._platform.backend(self._capability, name)


class LocalStub:
    """Calls an object as `BackendStub` calls a replica: batched methods get a list."""

    def __init__(self, target: Any, batch: str | None) -> None:
        self._target, self._batch = target, batch

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        function = getattr(self._target, method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if method == self._batch:
                args = ([args[0]],)
            if inspect.iscoroutinefunction(function):
                value = await function(*args, **kwargs)
            else:
                value = await asyncio.to_thread(function, *args, **kwargs)
            return value[0] if method == self._batch else value

        return call
