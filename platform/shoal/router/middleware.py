"""The Router: ASGI middleware that admits, limits, counts and audits every request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic, perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoal.contract.capability import Capability
from shoal.contract.context import OperationsOf, Services
from shoal.contract.errors import Forbidden, InternalError, ShoalError, Unavailable
from shoal.contract.names import mask_keys
from shoal.contract.stores import Stores
from shoal.tenants.audit import AuditLog
from shoal.tenants.directory import Directory
from shoal.tenants.records import AuditEntry
from shoal.tenants.snapshot import Snapshot
from shoal.tenants.usage_meter import UsageMeter

from .admission import Admission, AdmittedRequest
from .ceilings import Ceilings
from .cors import CORS
from .deadlines import Deadlines
from .exposures import ExposureLog
from .metering import MetricsExporter, RequestMetrics
from .problems import reject_websocket
from .rate_limiter import RateLimiter, ReplicaHeartbeat, body_too_large
from .replica_watch import ReplicaWatch
from .request_head import RequestHead, check_query_tenant, routing_path
from .response_guard import RequestTimeout, ResponseGuard
from .route_guard import SAFE
from .settings import RouterSettings
from .tenant_view import TenantViews

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Others are counted as `?`, so that callers cannot make up names of metrics."""


class Router:
    """Wraps a capability's ASGI application.

    The application finds the caller's TenantContext in `scope["shoal.context"]` and the
    request's id in `scope["shoal.request_id"]`. Paths include the capability's prefix
    (`/search/items`). The lifespan protocol starts and stops the router; without it,
    the first request starts it.

    Args:
        app: The application.
        capability: The capability that the application serves.
        directory: The tenant directory.
        services: What the platform gives the capability.
        open_stores: Makes a tenant's stores.
        operations: Opens another capability's operations for a caller.
        purge_if_erased: Called when a tenant was erased during one of its requests.
        usage: Counts the tenants' usage in this process.
        settings: The router's configuration.
        exporter: Gets the request counts every `flush_seconds`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        capability: Capability,
        directory: Directory,
        services: Services,
        open_stores: Callable[[str], Stores],
        operations: OperationsOf,
        purge_if_erased: Callable[[str], Awaitable[None]],
        usage: UsageMeter,
        settings: RouterSettings | None = None,
        exporter: MetricsExporter | None = None,
    ) -> None:
        self.app = app
        self.capability = capability.name
        self.settings = settings or RouterSettings()
        self._root = f"/{self.capability}"
        self._public = {f"{self._root}{path}" for path in self.settings.public}
        self._cors = CORS(self.settings.cors)
        self._purge_if_erased, self._usage = purge_if_erased, usage
        self.snapshot = Snapshot(
            directory,
            poll_seconds=self.settings.poll_seconds,
            stale_seconds=self.settings.stale_seconds,
        )
        tenant_exists = self.snapshot.tenants.__contains__
        self._ceilings = Ceilings(directory)
        views = TenantViews(
            self.snapshot,
            self.capability,
            self.settings.limits,
            open_stores,
            usage,
            self._ceilings,
        )
        self._exposures = ExposureLog(directory, views.stores, self.capability, tenant_exists)
        self._admission = Admission(
            self.capability,
            snapshot=self.snapshot,
            directory=directory,
            views=views,
            exposures=self._exposures,
            services=services,
            operations=operations,
            settings=self.settings,
        )
        self._heartbeat = ReplicaHeartbeat(directory, self.capability)
        self.metrics = RequestMetrics(
            directory,
            views.stores,
            self.capability,
            tenant_exists,
            exporter=exporter,
            flush_seconds=self.settings.flush_seconds,
        )
        self._deadlines = Deadlines()
        self._running: dict[int, tuple[Scope, float]] = {}
        self.watch = ReplicaWatch(
            directory, self.capability, self._heartbeat.id, self._in_progress, exporter
        )
        self._audit = AuditLog(directory, tenant_exists)
        self._starting: asyncio.Task[None] | None = None
        self._started = False

    async def start(self) -> None:
        """Follow the directory. Repeated and concurrent calls start it once."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        await self.snapshot.start()
        await self._heartbeat.start()
        self._ceilings.start()
        self._deadlines.start()
        self.metrics.start()
        self.watch.start()
        await self._usage.start()
        self._started = True

    async def stop(self) -> None:
        """Deliver queued exposures, audit entries and counts, and disconnect."""
        if self._starting is None:
            return
        await asyncio.shield(self._starting)
        self._started, self._starting = False, None
        await self._admission.close()
        await self._exposures.close()
        await self._audit.close()
        await self.metrics.close()
        await self.watch.stop()
        await self._usage.close()
        await self._ceilings.stop()
        await self._deadlines.stop()
        await self._heartbeat.stop()
        await self.snapshot.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def start_first() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
            return message

        async def stop_last(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.stop()
            await send(message)

        await self.app(scope, start_first, stop_last)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = perf_counter()
        head = RequestHead(scope)
        response = ResponseGuard(scope, receive, send, head.request_id, self._deadlines)
        if scope["method"] == "HEAD":  # what GET responds, without the body
            scope = {**scope, "method": "GET"}
        scope["shoal.request_id"] = head.request_id
        if not self._started:
            await self.start()
        method: str = scope["method"]
        request: AdmittedRequest | None = None
        try:
            if self._cors.is_configured:
                response.headers = self._cors.headers(head.origin)
            head.check(scope, self.settings.header_bytes)
            if head.is_preflight:
                await response.respond(204, self._cors.preflight(head.origin), b"")
                return
            path = scope["path"] = routing_path(scope)
            if path == f"{self._root}/":
                scope["path"] = self._root
            if path in self._public and method == "GET":
                await self._run(scope, receive, response, None)
                return
            request = await self._admission.identify(head)
            if self._cors.is_configured:
                response.headers = self._cors.headers(head.origin, request.caller.tenant)
            check_query_tenant(scope["query_string"], request.caller.tenant)
            self._running[id(scope)] = (scope, started_at)
            await self._serve(scope, receive, response, head, request)
        except ShoalError as error:
            await response.problem(error)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("request %s: %s %s failed", head.request_id, method, self._route(scope))
            if not response.started:
                await response.problem(
                    InternalError("internal error; it was logged with the request's id")
                )
        finally:
            self._running.pop(id(scope), None)
            if request is not None:
                await self._finish(scope, request, response.status, perf_counter() - started_at)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        response: ResponseGuard,
        head: RequestHead,
        request: AdmittedRequest,
    ) -> None:
        """Run the application for a known caller, within the tenant's limits."""
        limiter = request.view.limiter
        try:
            await self._enter(request)
            request.within_limits = True
            if request.is_billed:
                response.usage = request.view.usage
            scope["shoal.context"] = await self._admission.context(request)
            if head.has_body or scope["method"] not in SAFE:
                if head.content_length > limiter.body_bytes:
                    raise body_too_large(limiter.body_bytes)
                receive = response.limit_body(
                    limiter.body_bytes, self.settings.body_seconds, head.content_encoding
                )
            await self._run(scope, receive, response, limiter)
        finally:
            self._leave(request)

    async def _enter(self, request: AdmittedRequest) -> None:
        """Admit a request within the tenant's limits and quotas; `_leave` when it ends.

        Raises:
            LimitExceeded: It would be over one of them.
        """
        view = request.view
        view.limiter.acquire(view.limits, self._heartbeat.replicas, monotonic())
        request.held = (view.limiter,)
        if view.ceiling is not None and request.is_billed:
            await view.ceiling.acquire()
            request.held = (view.limiter, view.ceiling)
        if view.usage.has_quotas:
            await self._usage.watch(request.caller.tenant)
            if request.is_billed:
                view.usage.require("requests")

    @staticmethod
    def _leave(request: AdmittedRequest) -> None:
        for limiter in request.held:
            limiter.release()

    async def _run(
        self,
        scope: Scope,
        receive: Receive,
        response: ResponseGuard,
        limiter: RateLimiter | None,
    ) -> None:
        """Run the application within the limits of time and body size."""
        seconds = None if limiter is None else limiter.seconds
        deadline = response.deadline = self._deadlines.begin(seconds)
        try:
            async with deadline:
                try:
                    await self.app(scope, receive, response.send)
                finally:
                    self._deadlines.end(deadline)
        except Exception:
            if deadline.expired():
                if response.waits_for_body:
                    raise RequestTimeout(
                        f"the body had not arrived when the limit of {seconds:g} s had passed"
                    ) from None
                raise Unavailable(
                    f"the request took longer than the limit of {seconds:g} s"
                ) from None
            if response.body_error is None:
                raise
        finally:
            response.deadline = None
        if response.body_error is not None:
            raise response.body_error

    async def _finish(
        self, scope: Scope, request: AdmittedRequest, status: int, seconds: float
    ) -> None:
        """Count a request, and enter it into the audit log if it is a write."""
        tenant, method = request.caller.tenant, scope["method"]
        route = self._method_and_route(scope)
        self.watch.finish(route, seconds)
        self.metrics.record(tenant, route, status, seconds, request.user, request.variants)
        if method not in SAFE and request.within_limits:
            await self._audit_write(scope, request, route, status)
        if tenant not in self.snapshot.tenants:
            await self._purge_if_erased(tenant)

    def _in_progress(self) -> Iterator[tuple[str, float]]:
        """The requests in progress, and when they began."""
        for scope, started_at in self._running.values():
            yield self._method_and_route(scope), started_at

    def _method_and_route(self, scope: Scope) -> str:
        method = scope["method"]
        return f"{method if method in METHODS else '?'} {self._route(scope)}"

    def _route(self, scope: Scope) -> str:
        """The template of the route that was reached, or `-`.

        Paths that callers make up must not become names of metrics.
        """
        path = getattr(scope.get("route"), "shoal_path", None)
        return "-" if path is None else f"/{self.capability}{path}"

    async def _audit_write(
        self, scope: Scope, request: AdmittedRequest, action: str, status: int
    ) -> None:
        requirement = getattr(scope.get("route"), "shoal_requirement", None)
        if requirement is not None and requirement.right.startswith("read:"):
            return  # a POST that only reads
        entry = AuditEntry(
            credential=request.caller.credential,
            role=request.caller.role,
            user=request.user,
            action=action,
            path=mask_keys(scope["path"])[:512],
            status=status,
            request_id=request.request_id,
            changes=scope.get("shoal.changes", ()),
        )
        await self._audit.record(request.caller.tenant, entry)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = RequestHead(scope)
        scope["shoal.request_id"] = head.request_id
        if not self._started:
            await self.start()
        request: AdmittedRequest | None = None
        try:
            if not self.settings.websockets:
                raise Forbidden("this capability does not accept WebSockets")
            head.check(scope, self.settings.header_bytes)
            request = await self._admission.identify(head)
            check_query_tenant(scope["query_string"], request.caller.tenant)
            await self._enter(request)
            scope["shoal.context"] = await self._admission.context(request)
            await self.app(scope, receive, send)
        except ShoalError as error:
            await reject_websocket(scope, receive, send, error, head.request_id)
        finally:
            if request is not None:
                self._leave(request)
                if request.caller.tenant not in self.snapshot.tenants:
                    await self._purge_if_erased(request.caller.tenant)
