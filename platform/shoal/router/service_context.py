"""The context of callers that are no request: jobs, streams and hooks, which work for a
tenant as the service itself.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from shoal.contract.context import Operations, Role, Services, TenantContext
from shoal.contract.parameters import Parameters
from shoal.contract.stores import Stores
from shoal.tenants.directory import Directory

from .exposures import resolve

OperationsOf = Callable[[str, TenantContext], Operations | None]
"""Another capability's operations, by its name, as the context's caller; None where it
is not deployed.
"""


class CapabilityCaller:
    """`TenantContext.operations`: the operations of other capabilities, as this same
    caller.

    It knows the context's fields, not the context, which would make of every request's
    context a reference cycle.
    """

    __slots__ = ("_fields", "_operations")

    def __init__(self, operations: OperationsOf, **fields: Any) -> None:
        self._operations, self._fields = operations, fields

    def context(self) -> TenantContext:
        return TenantContext(**self._fields, operations=self)

    def __call__(self, name: str) -> Operations | None:
        return self._operations(name, self.context())


async def service_context(
    tenant: str,
    *,
    directory: Directory,
    stores: Stores,
    services: Services,
    operations: OperationsOf,
    capability: str,
) -> TenantContext:
    """Role admin, all boards, in no experiment: parameters are the defaults ← the
    tenant's own values.
    """
    promoted = await directory.get_parameters(tenant, capability)

    def resolved(model: type[Parameters]) -> Parameters:
        return resolve(
            model, promoted, (), {}, f"tenant {tenant}, capability {capability}"
        ).parameters

    return CapabilityCaller(
        operations,
        tenant=tenant,
        role=Role.admin,
        user=None,
        boards=None,
        request_id=uuid4().hex,
        stores=stores,
        services=services,
        resolve=resolved,
    ).context()
