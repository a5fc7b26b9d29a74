"""The Router: who is calling, for which tenant, within which limits, in which
experiments. Plain ASGI around an application.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import monotonic, perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoal.contract.capability import Capability
from shoal.contract.context import Role, Services, TenantContext
from shoal.contract.errors import Forbidden, InternalError, ShoalError, Unauthenticated, Unavailable
from shoal.contract.parameters import Parameters
from shoal.contract.stores import Stores
from shoal.tenants.audit import AuditLog
from shoal.tenants.directory import Directory
from shoal.tenants.records import AuditEntry, Caller, Limits
from shoal.tenants.snapshot import Snapshot, TenantState

from .assignment import Assignment, Plan
from .credentials import Authenticator
from .exposures import ExposureLog, Resolved, resolve, varied_by
from .metering import RequestMetrics
from .problems import respond
from .rate_limiter import RateLimiter, ReplicaHeartbeat, too_large
from .request_head import RequestHead, check_tenant, header_text
from .response_guard import ResponseGuard
from .route_guard import SAFE
from .service_context import CapabilityCaller, OperationsOf
from .settings import RouterSettings

log = logging.getLogger(__name__)

BOARDS_REMEMBERED = 50_000
RESOLVED_REMEMBERED = 1_000

NOBODY: frozenset[str] = frozenset()
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Others are counted as `?`: what callers make up must not become names in the account.
"""


class AdmittedRequest:
    """One admitted request: what the router found out about it."""

    __slots__ = ("caller", "request_id", "session", "user", "view")

    def __init__(
        self,
        caller: Caller,
        user: str | None,
        session: str | None,
        request_id: str,
        view: "TenantView",
    ) -> None:
        self.caller, self.user, self.session, self.request_id, self.view = (
            caller,
            user,
            session,
            request_id,
            view,
        )


class TenantView:
    """What this replica derives from one version of a tenant and of the platform's own
    entries.
    """

    __slots__ = (
        "gate",
        "limits",
        "plan",
        "platform",
        "promoted",
        "resolved",
        "state",
        "stores",
        "varied",
    )

    def __init__(
        self,
        state: TenantState,
        platform: TenantState,
        capability: str,
        limits: Limits,
        gate: RateLimiter | None,
        stores: Stores,
    ) -> None:
        self.state, self.platform, self.stores = state, platform, stores
        own = state.limits.get(capability, Limits()).over(state.limits.get("*", Limits()))
        self.limits = own.over(limits)
        self.gate = gate or RateLimiter(self.limits)
        names = {record.id for record in state.experiments}
        records = [
            record
            for record in (
                *state.experiments,
                *(r for r in platform.experiments if r.id not in names and state is not platform),
            )
            if record.capability in (None, capability) and record.status == "running"
        ]
        self.plan = Plan(records) if records else None
        self.varied = varied_by(records)
        self.promoted = state.parameters.get(capability, {})
        self.resolved: OrderedDict[Any, Resolved] = OrderedDict()


class Router:
    """Wraps a capability's application. `start` and `stop` run by the lifespan, or
    `start` at the first request.

    `open_stores(tenant)` gives a tenant's doors; `purge_if_erased(tenant)` is called
    when a tenant went during a request. Paths are whole (`/search/items`). The
    application finds the TenantContext in `scope["shoal.context"]` and the request's id
    in `scope["shoal.request_id"]`.
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
        settings: RouterSettings | None = None,
    ) -> None:
        self.app = app
        self.capability = capability.name
        self.settings = settings or RouterSettings()
        self._public = {f"/{self.capability}{path}" for path in self.settings.public}
        self.snapshot = Snapshot(
            directory,
            poll_seconds=self.settings.poll_seconds,
            stale_seconds=self.settings.stale_seconds,
        )
        self._directory, self._services, self._operations, self._purge_if_erased = (
            directory,
            services,
            operations,
            purge_if_erased,
        )
        self._stores: dict[str, Stores] = {}
        self._open_stores = open_stores
        self._authenticator = Authenticator(self.snapshot, self.settings)
        self._presence = ReplicaHeartbeat(directory, self.capability)
        self._views: dict[str, TenantView] = {}
        self._boards: OrderedDict[tuple[str, str], tuple[TenantState, frozenset[str]]] = (
            OrderedDict()
        )
        tenant_exists = self.snapshot.tenants.__contains__
        self._exposures = ExposureLog(directory, self._doors, self.capability, tenant_exists)
        self.account = RequestMetrics(
            directory,
            self._doors,
            self.capability,
            tenant_exists,
            flush_seconds=self.settings.flush_seconds,
        )
        self._audit = AuditLog(directory, tenant_exists)
        self._starting: asyncio.Task[None] | None = None
        self._started = False

    async def start(self) -> None:
        """Follow the directory. Safe to call again, and while another call is at it."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        await self.snapshot.start()
        await self._presence.start()
        self.account.start()
        self._started = True

    async def stop(self) -> None:
        """Deliver what waits (exposures, audit entries, counts) and let go of the
        directory.
        """
        if self._starting is None:
            return
        await asyncio.shield(self._starting)
        self._started, self._starting = False, None
        await self._exposures.close()
        await self._audit.close()
        await self.account.close()
        await self._presence.stop()
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
        async def starting() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
            return message

        async def stopping(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.stop()
            await send(message)

        await self.app(scope, starting, stopping)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        head = RequestHead(scope)
        exchange = ResponseGuard(receive, send, head.request_id)
        scope["shoal.request_id"] = head.request_id
        if not self._started:
            await self.start()
        method: str = scope["method"]
        call: AdmittedRequest | None = None
        gate: RateLimiter | None = None
        variants: Mapping[str, str] = {}
        try:
            head.check(scope, self.settings.header_bytes)
            if scope["path"] in self._public and method in ("GET", "HEAD"):
                await self._run(scope, receive, exchange, None)
                return
            call = await self._identify(head)
            check_tenant(scope["query_string"], call.caller.tenant)
            view = call.view
            view.gate.enter(view.limits, self._presence.replicas, monotonic())
            gate = view.gate
            context = self._context(call, await self._boards_of(call))
            variants = context.variants
            scope["shoal.context"] = context
            if head.has_body or method not in SAFE:
                if head.content_length > gate.body_bytes:
                    raise too_large(gate.body_bytes)
                receive = exchange.limit(gate.body_bytes)
            await self._run(scope, receive, exchange, gate)
        except ShoalError as error:
            await exchange.problem(error)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("request %s: %s %s failed", head.request_id, method, self._route(scope))
            if not exchange.started:
                await exchange.problem(
                    InternalError(
                        "an error of the platform's; it was logged under the request's id"
                    )
                )
        finally:
            if gate is not None:
                gate.leave()
            if call is not None:
                route, seconds = (
                    f"{method if method in METHODS else '?'} {self._route(scope)}",
                    perf_counter() - began,
                )
                self.account.record(
                    call.caller.tenant, route, exchange.status, seconds, call.user, variants
                )
                if gate is not None and method not in SAFE:
                    await self._enter(scope, call, route, exchange.status)
                if call.caller.tenant not in self.snapshot.tenants:
                    await self._purge_if_erased(call.caller.tenant)

    async def _run(
        self, scope: Scope, receive: Receive, exchange: ResponseGuard, gate: RateLimiter | None
    ) -> None:
        """The application, within the gate's time and its limit of the body."""
        deadline = exchange.deadline = asyncio.timeout(None if gate is None else gate.seconds)
        try:
            async with deadline:
                await self.app(scope, receive, exchange.send)
        except Exception:
            if gate is not None and deadline.expired():
                raise Unavailable(
                    f"the request took longer than the limit of {gate.seconds:g} s"
                ) from None
            if not exchange.exceeded:
                raise
        finally:
            exchange.deadline = None
        if gate is not None and exchange.exceeded:
            raise too_large(gate.body_bytes)

    async def _identify(self, head: RequestHead) -> AdmittedRequest:
        """Credential → tenant → user."""
        if not self.snapshot.fresh():
            await self.snapshot.require_fresh()
        token = head.token()
        caller = self._authenticator.known(token) or await self._authenticator.verify(token)
        user = caller.user
        if head.user is not None:
            named = header_text(head.user, "Shoal-User")
            if user is not None and named != user:
                raise Forbidden("the credential is of one user, and Shoal-User names another")
            user = named
        session = None if head.session is None else header_text(head.session, "Shoal-Session")
        return AdmittedRequest(caller, user, session, head.request_id, self._view(caller.tenant))

    def _view(self, tenant: str) -> TenantView:
        view = self._views.get(tenant)
        state = self.snapshot.tenants.get(tenant)
        if state is None:
            self._views.pop(tenant, None)
            self._stores.pop(tenant, None)
            raise Unauthenticated("the credential's tenant is gone")
        if view is None or view.state is not state or view.platform is not self.snapshot.platform:
            if len(self._views) > len(self.snapshot.tenants):  # some tenants went
                self._views = {
                    name: view
                    for name, view in self._views.items()
                    if name in self.snapshot.tenants
                }
                self._stores = {
                    name: doors
                    for name, doors in self._stores.items()
                    if name in self.snapshot.tenants
                }
            gate = None if view is None else view.gate
            view = TenantView(
                state,
                self.snapshot.platform,
                self.capability,
                self.settings.limits,
                gate,
                self._doors(tenant),
            )
            self._views[tenant] = view
        return view

    def _doors(self, tenant: str) -> Stores:
        stores = self._stores.get(tenant)
        if stores is None:
            stores = self._stores[tenant] = self._open_stores(tenant)
        return stores

    async def _boards_of(self, call: AdmittedRequest) -> frozenset[str] | None:
        caller, user = call.caller, call.user
        if caller.all_boards:
            return None
        if user is None:
            return NOBODY if caller.role is Role.reader else None
        key, state = (caller.tenant, user), call.view.state
        known = self._boards.get(key)
        if known is not None and known[0] is state:
            return known[1]
        boards = await self._directory.boards_of(caller.tenant, user)
        self._boards[key] = state, boards
        self._boards.move_to_end(key)
        if len(self._boards) > BOARDS_REMEMBERED:
            self._boards.popitem(last=False)
        return boards

    def _context(self, call: AdmittedRequest, boards: frozenset[str] | None) -> TenantContext:
        caller, view = call.caller, call.view
        assignments: list[Assignment] = []
        variants: dict[str, str] = {}
        if view.plan is not None:
            assignments = view.plan.assign(
                {"user": call.user, "tenant": caller.tenant, "session": call.session},
                {
                    "role": caller.role.value,
                    "user": call.user,
                    "tenant": caller.tenant,
                    "board": boards,
                },
            )
            variants = {assignment.experiment: assignment.variant for assignment in assignments}
        return CapabilityCaller(
            self._operations,
            tenant=caller.tenant,
            role=caller.role,
            user=call.user,
            boards=boards,
            request_id=call.request_id,
            stores=view.stores,
            services=self._services,
            resolve=partial(self._resolve, call, assignments),
            variants=variants,
        ).context()

    def _resolve(
        self, call: AdmittedRequest, assignments: list[Assignment], model: type[Parameters]
    ) -> Parameters:
        view = call.view
        key = (model, *((a.experiment, a.variant) for a in assignments))
        found = view.resolved.get(key)
        if found is None:
            where = f"tenant {call.caller.tenant}, capability {self.capability}"
            found = view.resolved[key] = resolve(
                model, view.promoted, assignments, view.varied, where
            )
            if len(view.resolved) > RESOLVED_REMEMBERED:
                view.resolved.popitem(last=False)
        for assignment in found.exposing:
            unit = {"user": call.user, "tenant": call.caller.tenant, "session": call.session}[
                assignment.unit
            ]
            if unit is not None:
                self._exposures.note(call.caller.tenant, assignment, unit)
        return found.parameters

    def _route(self, scope: Scope) -> str:
        """The route's template; `-` when none was reached, so that made-up paths do not
        become names in the account.
        """
        path = getattr(scope.get("route"), "shoal_path", None)
        return "-" if path is None else f"/{self.capability}{path}"

    async def _enter(self, scope: Scope, call: AdmittedRequest, action: str, status: int) -> None:
        """Into the audit log, unless the route only reads."""
        if getattr(scope.get("route"), "shoal_role", None) is Role.reader:
            return
        entry = AuditEntry(
            credential=call.caller.credential,
            role=call.caller.role,
            user=call.user,
            action=action,
            path=scope["path"][:512],
            status=status,
            request_id=call.request_id,
        )
        await self._audit.enter(call.caller.tenant, entry)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = RequestHead(scope)
        scope["shoal.request_id"] = head.request_id
        if not self._started:
            await self.start()
        gate: RateLimiter | None = None
        call: AdmittedRequest | None = None
        try:
            if not self.settings.websockets:
                raise Forbidden("this capability has no websockets")
            head.check(scope, self.settings.header_bytes)
            call = await self._identify(head)
            check_tenant(scope["query_string"], call.caller.tenant)
            view = call.view
            view.gate.enter(view.limits, self._presence.replicas, monotonic())
            gate = view.gate
            scope["shoal.context"] = self._context(call, await self._boards_of(call))
            await self.app(scope, receive, send)
        except ShoalError as error:
            await _refuse(scope, receive, send, error, head.request_id)
        finally:
            if gate is not None:
                gate.leave()
            if call is not None and call.caller.tenant not in self.snapshot.tenants:
                await self._purge_if_erased(call.caller.tenant)


async def _refuse(
    scope: Scope, receive: Receive, send: Send, error: ShoalError, request_id: str
) -> None:
    """Refuse a websocket's handshake, with a problem where the server can send one."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" in scope.get("extensions", {}):
        status, headers, body = respond(error, request_id)
        headers.append((b"x-request-id", request_id.encode()))
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.title})
