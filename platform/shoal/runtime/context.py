"""What a process of the platform has: configuration, plugins, stores of any tenant."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
from pydantic import ValidationError

from shoal.contract.capability import Capability, Job, Stream
from shoal.contract.context import Operations, TenantContext
from shoal.contract.errors import Invalid, NotFound, ShoalError
from shoal.contract.operations import Operation, OperationRequest, decode, operations
from shoal.contract.stores import Stores
from shoal.contract.usage import Usage
from shoal.egress.egress import Egress
from shoal.eventlog.kafka_settings import KafkaSource
from shoal.eventlog.log import EventLog
from shoal.eventlog.redis_log import RedisEventLog
from shoal.router.credentials import mint_internal
from shoal.router.metering import MetricsExporter
from shoal.router.middleware import Router
from shoal.router.quotas import TenantUsage
from shoal.router.service_context import service_context
from shoal.tenants import lifecycle
from shoal.tenants.directory import Directory
from shoal.tenants.erasure import erase_data, note_erased, rewrite_files
from shoal.tenants.records import TenantRecord
from shoal.tenants.tenant_stores import open_stores
from shoal.tenants.usage_meter import UsageMeter

from . import plugins as plugin_loader
from . import status
from .backend_stub import BackendStub
from .configuration import Config
from .deployments import call_deployment
from .job_runs import JobRuns
from .plugins import Plugins

log = logging.getLogger("shoal.runtime")
M = TypeVar("M")


def counts_by_kind(results: Mapping[str, Mapping[str, int] | None]) -> dict[str, int]:
    """What a hook's plugins counted, by `<plugin>.<kind>`."""
    return {
        f"{plugin}.{kind}": count
        for plugin, by_kind in results.items()
        for kind, count in (by_kind or {}).items()
    }


class PlatformContext:
    """The platform as one process sees it.

    Serve replicas, workers and job processes use `PlatformContext.current()`.

    Args:
        config: Must have the stores' URIs and the router's internal secret.
        plugins: What is installed.
        platform_capability: The platform's own capability, beside those of the plugins.

    Raises:
        Invalid: The configuration is incomplete.
    """

    def __init__(self, config: Config, plugins: Plugins, platform_capability: Capability) -> None:
        config.require_complete()
        secret = config.router.internal_secret
        assert config.stores is not None and secret is not None
        self.config = config
        self.stores = config.stores
        self.secret = secret.get_secret_value()
        self.plugins = plugins
        self.capabilities = {
            platform_capability.name: platform_capability,
            **plugins.capabilities,
        }
        self._operations: dict[str, dict[str, Operation]] = {}

    @classmethod
    @cache
    def current(cls) -> Self:
        """This process's.

        On one machine from the file in `SHOAL_RUNTIME`, which `shoal up` writes; on a
        cluster from the deployment's settings and the machine's environment.
        """
        path = os.environ.get("SHOAL_RUNTIME")
        config = Config(**orjson.loads(Path(path).read_bytes())) if path else Config.load()
        installed = plugin_loader.installed(config.disabled)
        return cls(config, installed, plugin_loader.platform_capability())

    # Clients of the stores

    @cached_property
    def directory(self) -> Directory:
        """The tenant directory.

        It is in the events' Redis, which is durable at each write: a
        revocation that was acknowledged must survive a power cut.
        """
        return Directory(self.stores.events)

    @cached_property
    def job_runs(self) -> JobRuns:
        return JobRuns(self.stores.online)

    @cached_property
    def event_log(self) -> EventLog:
        return RedisEventLog(self.stores)

    @cached_property
    def usage(self) -> UsageMeter:
        """Counts what tenants use in this process."""
        return UsageMeter(self.directory, self.config.data / "usage")

    def open_stores(self, tenant: str, capability: str) -> Stores:
        """A tenant's stores, as a capability has them."""
        return open_stores(self.stores, tenant, capability)

    # Capabilities, and what they bring

    def capability(self, name: str) -> Capability:
        try:
            return self.capabilities[name]
        except KeyError:
            raise NotFound(f"no capability {name!r} is installed") from None

    def jobs(self) -> dict[str, Job]:
        """All jobs by name: `<capability>.<job>`."""
        return {f"{c.name}.{j.name}": j for c in self.capabilities.values() for j in c.jobs}

    def job(self, name: str) -> tuple[Capability, Job]:
        """The job called `<capability>.<job>`, and its capability."""
        jobs = self.jobs()
        if name not in jobs:
            raise NotFound(f"no job {name!r}; available: {', '.join(sorted(jobs))}")
        return self.capability(name.partition(".")[0]), jobs[name]

    def streams(self) -> dict[str, tuple[Capability, Stream]]:
        """The streams by their consumer group, `<capability>.<stream>`."""
        return {
            f"{capability.name}.{stream.name}": (capability, stream)
            for capability in self.capabilities.values()
            for stream in capability.streams
        }

    def sources(self) -> dict[str, KafkaSource]:
        """The sources of Kafka by the group of their dead letters, `kafka.<name>`."""
        return {source.events_group: source for source in self.config.sources}

    def groups(self) -> list[str]:
        """The groups of the event log: of streams, and of Kafka's sinks and sources."""
        sinks = [sink.events_group for sink in self.config.sinks]
        return [*self.streams(), *sinks, *self.sources()]

    def services(self, capability: str) -> "PlatformServices":
        return PlatformServices(self, capability)

    def router(
        self, app: Any, capability: Capability, exporter: MetricsExporter | None = None
    ) -> Router:
        """The Router in front of a capability's application."""
        return Router(
            app,
            capability=capability,
            directory=self.directory,
            services=self.services(capability.name),
            open_stores=partial(self.open_stores, capability=capability.name),
            operations=self.operations,
            purge_if_erased=self.purge_if_erased,
            usage=self.usage,
            settings=self.config.router,
            exporter=exporter,
        )

    # Work outside requests

    async def tenants(self) -> list[str]:
        """The ids of all tenants."""
        return await self.directory.tenant_ids()

    async def create_tenant(self, tenant: str, name: str | None = None) -> TenantRecord:
        """Create a tenant and tell every plugin: see `lifecycle.create_tenant`."""

        async def notify(tenant: str) -> None:
            await self.call_hook("shoal_tenant_added", tenant)

        return await lifecycle.create_tenant(
            tenant, name, directory=self.directory, notify_plugins=notify
        )

    async def erase_tenant(self, tenant: str) -> lifecycle.Erasure:
        """Erase a tenant from the platform: see `lifecycle.erase_tenant`."""

        async def notify(tenant: str) -> dict[str, int]:
            return counts_by_kind(await self.call_hook("shoal_tenant_removed", tenant))

        return await lifecycle.erase_tenant(
            tenant,
            directory=self.directory,
            stores=self.stores,
            forget_job_runs=self.job_runs.forget_tenant,
            notify_plugins=notify,
        )

    async def call_hook(self, hook: str, tenant: str, **arguments: Any) -> dict[str, Any]:
        """Call a hook of every plugin, once each; the results by the plugin's name."""
        results = {}
        for plugin, caller in self.plugins.hook_callers(hook):
            [result] = caller(ctx=await self.context(tenant, plugin), **arguments)
            results[plugin] = await result
        return results

    async def purge_if_erased(self, *tenants: str) -> None:
        """Erase what work that just ended wrote of tenants erased in the meantime."""
        try:
            if erased := [t for t in tenants if await self.directory.is_erased(t)]:
                for tenant in erased:
                    counts = await erase_data(self.stores, tenant)
                    await note_erased(self.directory.redis, tenant, counts)
                await rewrite_files(self.stores)
        except ShoalError:
            log.exception("could not erase what work in progress wrote of erased tenants")

    async def context(
        self, tenant: str, capability: str, usage: Usage | None = None
    ) -> TenantContext:
        """A context for jobs, streams and hooks: role admin, all boards.

        Args:
            tenant: The tenant's id.
            capability: What acts for it.
            usage: Where its usage is counted; by default in this process's journal.
        """
        return await service_context(
            tenant,
            directory=self.directory,
            stores=self.open_stores(tenant, capability),
            services=self.services(capability),
            operations=self.operations,
            capability=capability,
            usage=usage or TenantUsage(self.usage, tenant, capability),
        )

    async def states(self) -> dict[str, dict[str, Any]]:
        """The state of each Serve application: see `status.applications_now`."""
        return await asyncio.to_thread(status.applications_now)

    # One capability calling another

    def operations(self, name: str, caller: TenantContext) -> Operations | None:
        """The operations of a capability, called as `caller`; None if not installed."""
        return RemoteOperations(self, name, caller) if name in self.capabilities else None

    async def call_application(
        self, name: str, call: OperationRequest, headers: dict[str, str]
    ) -> Any:
        """Send one request to a capability's ingress; the decoded response."""
        status, found, body = await call_deployment(
            name, "ingress", "call_application", call, {**headers, **dict(call.headers)}
        )
        return decode(status, found.get("content-type", ""), body)

    async def known_operations(self, name: str) -> dict[str, Operation]:
        if name not in self._operations:
            self._operations[name] = operations(
                await self.call_application(
                    name, OperationRequest("GET", f"/{name}/openapi.json"), {}
                )
            )
        return self._operations[name]


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
                    f"{self._name} has no operation {operation!r}; "
                    f"available: {', '.join(sorted(known))}"
                )
            caller = self._caller
            token = mint_internal(
                self._platform.secret,
                tenant=caller.tenant,
                role=caller.role,
                user=caller.user,
                ttl=60,
                rights=caller.rights,
            )
            headers = {"authorization": f"Bearer {token}", "x-request-id": caller.request_id}
            return await self._platform.call_application(
                self._name, known[operation].request(arguments), headers
            )

        return call


class PlatformServices:
    """The `Services` of one capability in this process."""

    def __init__(self, platform: PlatformContext, capability: str) -> None:
        self._platform, self._capability = platform, capability

    @property
    def egress(self) -> Egress:
        return self._platform.config.egress

    def settings(self, model: type[M]) -> M:
        try:
            return model(**self._platform.config.capabilities.get(self._capability, {}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([self._capability, *map(str, first["loc"])])
            raise Invalid(f"invalid configuration: capabilities.{where}: {first['msg']}") from error

    def backend(self, name: str) -> Any:
        for spec in self._platform.capability(self._capability).backends:
            if spec.name == name:
                return BackendStub(spec, self._capability)
        raise NotFound(f"{self._capability} has no backend {name!r}")
