"""Admission of a request: its caller, and the context that its route gets."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from shoal.contract.context import OperationsOf, Services, TenantContext
from shoal.contract.errors import Forbidden, Unauthenticated
from shoal.contract.parameters import Parameters
from shoal.contract.rights import Right
from shoal.tenants.directory import Directory
from shoal.tenants.records import Caller
from shoal.tenants.roles import rights_for_user
from shoal.tenants.snapshot import Snapshot, TenantState
from shoal.tenants.users import UserAccess

from .assignment import Assignment
from .ceilings import Ceiling
from .credentials import Authenticator
from .exposures import ExposureLog, resolve
from .rate_limiter import RateLimiter
from .request_head import RequestHead, header_text
from .settings import RouterSettings
from .tenant_view import TenantView, TenantViews

CACHED_USERS = 50_000
CACHED_PARAMETERS = 1_000

NO_BOARDS: frozenset[str] = frozenset()


class AdmittedRequest:
    """A request with a valid credential, and what the router knows about it."""

    __slots__ = (
        "caller",
        "held",
        "is_billed",
        "request_id",
        "session",
        "user",
        "variants",
        "view",
        "within_limits",
    )

    def __init__(
        self,
        caller: Caller,
        user: str | None,
        session: str | None,
        request_id: str,
        view: TenantView,
    ) -> None:
        self.caller, self.user, self.session = caller, user, session
        self.request_id, self.view = request_id, view
        self.is_billed = caller.kind != "internal"
        """Whether the tenant made it itself, and not the platform on its behalf."""
        self.held: tuple[RateLimiter | Ceiling, ...] = ()
        """What admitted it and is released when it ends."""
        self.within_limits = False
        """Whether the rate limiter accepted it."""
        self.variants: Mapping[str, str] = {}
        """The variants' names by experiment id, once the context is created."""


class Admission:
    """Finds a request's caller, boards, experiments and parameters.

    Args:
        capability: The capability's name.
        snapshot: The tenants' records.
        directory: Where board members are looked up.
        views: The tenants' limits, experiments and stores.
        exposures: Where the use of varied parameters is logged.
        services: The capability's settings and backends.
        operations: Opens another capability's operations for a caller.
        settings: The router's configuration.
    """

    def __init__(
        self,
        capability: str,
        *,
        snapshot: Snapshot,
        directory: Directory,
        views: TenantViews,
        exposures: ExposureLog,
        services: Services,
        operations: OperationsOf,
        settings: RouterSettings,
    ) -> None:
        self._capability, self._snapshot, self._directory = capability, snapshot, directory
        self._views, self._exposures = views, exposures
        self._services, self._operations = services, operations
        self._authenticator = Authenticator(snapshot, settings, services.egress)
        self._users: OrderedDict[tuple[str, str], tuple[TenantState, UserAccess]] = OrderedDict()

    async def close(self) -> None:
        await self._authenticator.close()

    async def identify(self, head: RequestHead) -> AdmittedRequest:
        """Find the tenant and user of a request by its credential.

        Raises:
            Unauthenticated: There is no valid credential.
            Forbidden: The credential belongs to another user than `Shoal-User` names.
            Unavailable: The tenants' records may be out of date.
        """
        if not self._snapshot.fresh():
            await self._snapshot.require_fresh()
        token = head.token()
        caller = self._authenticator.known(token) or await self._authenticator.verify(token)
        user = caller.user
        if head.user is not None:
            named = header_text(head.user, "Shoal-User")
            if user is not None and named != user:
                raise Forbidden("this key belongs to another user")
            user = named
        session = None if head.session is None else header_text(head.session, "Shoal-Session")
        view = self._views.get(caller.tenant)
        return AdmittedRequest(caller, user, session, head.request_id, view)

    async def context(self, request: AdmittedRequest) -> TenantContext:
        """Create the context that the capability's route gets."""
        access = None if request.user is None else await self._access(request, request.user)
        rights = self._rights(request, access)
        boards = self._visible_boards(request, access, rights)
        assignments = self._assign(request, boards)
        if assignments:
            request.variants = {a.experiment: a.variant for a in assignments}
        return TenantContext(
            tenant=request.caller.tenant,
            role=request.caller.role,
            rights=rights,
            user=request.user,
            boards=boards,
            request_id=request.request_id,
            stores=request.view.stores,
            services=self._services,
            resolve=partial(self._resolve, request, assignments),
            operations=self._operations,
            variants=request.variants,
            usage=request.view.usage,
            seconds=request.view.limiter.seconds,
        )

    async def _access(self, request: AdmittedRequest, user: str) -> UserAccess:
        """What the directory says of the request's user.

        Raises:
            Unauthenticated: The user is deactivated.
        """
        tenant, state = request.caller.tenant, request.view.state
        key = (tenant, user)
        cached = self._users.get(key)
        if cached is not None and cached[0] is state:
            access = cached[1]
        else:
            access = await self._directory.users.access(tenant, user)
            self._users[key] = state, access
            self._users.move_to_end(key)
            if len(self._users) > CACHED_USERS:
                self._users.popitem(last=False)
        if not access.active:
            raise Unauthenticated(f"the user {user!r} is deactivated")
        return access

    @staticmethod
    def _rights(request: AdmittedRequest, access: UserAccess | None) -> frozenset[Right]:
        """The caller's rights; for a user whom a service names, personal ones."""
        caller = request.caller
        if caller.rights is not None:
            rights = caller.rights
        elif access is not None and not caller.role_given:
            rights = _rights_given(request, access)
        else:
            rights = request.view.rights(caller, caller.role)
        acts_for_user = caller.user is None and request.user is not None
        return rights_for_user(rights) if acts_for_user else rights

    @staticmethod
    def _visible_boards(
        request: AdmittedRequest, access: UserAccess | None, rights: frozenset[Right]
    ) -> frozenset[str] | None:
        """The boards that the user may see; None means all of the tenant's."""
        if request.caller.all_boards:
            return None
        if access is None:
            return None if "read:tenant" in rights else NO_BOARDS
        return access.boards

    def _assign(self, request: AdmittedRequest, boards: frozenset[str] | None) -> list[Assignment]:
        plan, caller = request.view.plan, request.caller
        if plan is None:
            return []
        return plan.assign(
            {"user": request.user, "tenant": caller.tenant, "session": request.session},
            {
                "role": caller.role,
                "user": request.user,
                "tenant": caller.tenant,
                "board": boards,
            },
        )

    def _resolve(
        self, request: AdmittedRequest, assignments: list[Assignment], model: type[Parameters]
    ) -> Parameters:
        view, tenant = request.view, request.caller.tenant
        key = (model, *((a.experiment, a.variant) for a in assignments))
        found = view.resolved.get(key)
        if found is None:
            where = f"tenant {tenant}, capability {self._capability}"
            found = resolve(model, view.promoted, assignments, view.varied, where)
            view.resolved[key] = found
            if len(view.resolved) > CACHED_PARAMETERS:
                view.resolved.popitem(last=False)
        for assignment in found.exposing:
            units = {"user": request.user, "tenant": tenant, "session": request.session}
            unit = units[assignment.unit]
            if unit is not None:
                self._exposures.note(tenant, assignment, unit)
        return found.parameters


def _rights_given(request: AdmittedRequest, access: UserAccess) -> frozenset[Right]:
    """The rights of all roles given to the user, whose widest then names the caller.

    Without any, those of the role that the credential has by default.
    """
    caller, view = request.caller, request.view
    given = {role: view.rights(caller, role) for role in access.roles if view.has_role(role)}
    if not given:
        return view.rights(caller, caller.role)
    widest = max(given, key=lambda role: (len(given[role]), role))
    request.caller = replace(caller, role=widest, role_given=True)
    return frozenset().union(*given.values())
