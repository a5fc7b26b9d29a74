"""What a replica derives from a tenant's records, cached until they change."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from shoal.contract.errors import Forbidden, Unauthenticated
from shoal.contract.rights import SERVICE_RIGHTS, Right
from shoal.contract.stores import Stores
from shoal.tenants.records import Caller, Limits
from shoal.tenants.roles import rights_of
from shoal.tenants.snapshot import Snapshot, TenantState
from shoal.tenants.usage_ledger import ALL
from shoal.tenants.usage_meter import UsageMeter

from .assignment import Plan
from .ceilings import Ceilings
from .exposures import Resolved, varied_by
from .quotas import TenantUsage
from .rate_limiter import RateLimiter

OF_A_REQUEST = {"body_bytes", "seconds"}
"""Limits of each request: those of all capabilities (`*`) are a capability's where it
has none of its own. The others are of all together.
"""


class TenantView:
    """A tenant's limits, running experiments, parameters and stores, for a capability.

    It is derived from one version of the tenant's and of the platform's records.
    """

    __slots__ = (
        "_rights",
        "ceiling",
        "limiter",
        "limits",
        "plan",
        "platform",
        "promoted",
        "resolved",
        "roles",
        "state",
        "stores",
        "usage",
        "varied",
    )

    def __init__(
        self,
        state: TenantState,
        platform: TenantState,
        capability: str,
        limits: Limits,
        limiter: RateLimiter | None,
        stores: Stores,
        meter: UsageMeter,
        ceilings: Ceilings,
    ) -> None:
        self.state, self.platform, self.stores = state, platform, stores
        of_all = state.limits.get(ALL, Limits())
        self.limits = state.limits.get(capability, Limits()).over(
            limits.model_copy(update=of_all.model_dump(include=OF_A_REQUEST, exclude_none=True))
        )
        quotas = {capability: self.limits, ALL: of_all}
        self.usage = TenantUsage(meter, state.id, capability, quotas)
        self.ceiling = ceilings.get(state.id, of_all)
        self.limiter = limiter or RateLimiter(self.limits)
        ids = {record.id for record in state.experiments}
        shared = (r for r in platform.experiments if r.id not in ids and state is not platform)
        running = [
            record
            for record in (*state.experiments, *shared)
            if record.capability in (None, capability) and record.status == "running"
        ]
        self.plan = Plan(running) if running else None
        self.varied = varied_by(running)
        self.roles = {**platform.roles, **state.roles}
        self._rights: dict[tuple[str, bool], frozenset[Right]] = {}
        """By role, and whether the credential is a user's."""
        self.promoted = state.parameters.get(capability, {})
        self.resolved: OrderedDict[Any, Resolved] = OrderedDict()
        """Parameters by model and variants, so that most requests validate none."""

    def rights(self, caller: Caller, role: str) -> frozenset[Right]:
        """The rights that the caller has by a role.

        Raises:
            Forbidden: The tenant has no such role.
        """
        kind = (role, caller.user is not None)
        if (rights := self._rights.get(kind)) is not None:
            return rights
        if not self.has_role(role):
            raise Forbidden(
                f"the role {role!r} of this credential is not defined: an admin of the tenant"
                " defines it by PUT /platform/roles/<name>"
            )
        rights = rights_of(self.state.id, role, self.roles, has_user=kind[1])
        self._rights[kind] = rights
        return rights

    def has_role(self, role: str) -> bool:
        """Whether the role is built in, the tenant's own or the operator's."""
        return role in SERVICE_RIGHTS or role in self.roles


class TenantViews:
    """The views of all tenants, each recreated when the snapshot has newer records.

    Args:
        snapshot: The tenants' records.
        capability: The capability's name.
        limits: The limits of tenants that have none of their own.
        open_stores: Opens a tenant's stores.
        meter: Counts the tenants' usage.
        ceilings: The tenants' limits on all capabilities together.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        capability: str,
        limits: Limits,
        open_stores: Callable[[str], Stores],
        meter: UsageMeter,
        ceilings: Ceilings,
    ) -> None:
        self._snapshot, self._capability, self._limits = snapshot, capability, limits
        self._open_stores, self._meter, self._ceilings = open_stores, meter, ceilings
        self._views: dict[str, TenantView] = {}
        self._stores: dict[str, Stores] = {}

    def get(self, tenant: str) -> TenantView:
        """The tenant's current view.

        Raises:
            Unauthenticated: The tenant no longer exists.
        """
        view = self._views.get(tenant)
        state, platform = self._snapshot.tenants.get(tenant), self._snapshot.platform
        if state is None:
            self._views.pop(tenant, None)
            self._stores.pop(tenant, None)
            raise Unauthenticated("the tenant of this credential no longer exists")
        if view is None or view.state is not state or view.platform is not platform:
            self._forget_erased()
            view = self._views[tenant] = TenantView(
                state,
                platform,
                self._capability,
                self._limits,
                None if view is None else view.limiter,
                self.stores(tenant),
                self._meter,
                self._ceilings,
            )
        return view

    def stores(self, tenant: str) -> Stores:
        """The tenant's stores, opened once."""
        stores = self._stores.get(tenant)
        if stores is None:
            stores = self._stores[tenant] = self._open_stores(tenant)
        return stores

    def _forget_erased(self) -> None:
        tenants = self._snapshot.tenants
        if len(self._views) > len(tenants):
            self._views = {name: view for name, view in self._views.items() if name in tenants}
            self._stores = {name: s for name, s in self._stores.items() if name in tenants}
