"""The hooks that a plugin may implement.

A plugin is a module or object, registered as an entry point of the group `shoal`.
"""

from collections.abc import Mapping, Sequence

import pluggy

from .capability import Capability
from .context import TenantContext

hookspec = pluggy.HookspecMarker("shoal")
hookimpl = pluggy.HookimplMarker("shoal")


@hookspec
def shoal_capabilities() -> Sequence[Capability]:  # type: ignore[empty-body]
    """The capabilities that this plugin offers.

    Called once in every process that needs them. Import heavy libraries later, in
    `routes`, `build` or `run`.
    """


@hookspec
async def shoal_tenant_added(ctx: TenantContext) -> None:
    """Prepare what a new tenant needs before its first request.

    Must be idempotent: it is called again after an error.

    Args:
        ctx: The service's context in the new tenant.
    """


@hookspec
async def shoal_tenant_removed(ctx: TenantContext) -> Mapping[str, int]:  # type: ignore[empty-body]
    """Erase what the plugin stores of a tenant outside its four stores.

    The platform erases the four stores. Must be idempotent: it is called again after
    an error.

    Args:
        ctx: The service's context in the tenant.

    Returns:
        How many objects were erased, by their kind.
    """
