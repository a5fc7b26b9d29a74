"""The hooks a plugin may implement. A plugin is a module or object, registered as an
entry point of the group `shoal`.
"""

from collections.abc import Mapping, Sequence

import pluggy

from .capability import Capability
from .context import TenantContext

hookspec = pluggy.HookspecMarker("shoal")
hookimpl = pluggy.HookimplMarker("shoal")


@hookspec
def shoal_capabilities() -> Sequence[Capability]:  # type: ignore[empty-body]
    """The capabilities that this plugin offers. Called once in every process that needs
    them: import heavy libraries later, in `routes`, `build` or `run`.
    """


@hookspec
async def shoal_tenant_added(ctx: TenantContext) -> None:
    """A tenant was made: prepare what must be there before its first request. Called
    again after a fault; be idempotent.
    """


@hookspec
async def shoal_tenant_removed(ctx: TenantContext) -> Mapping[str, int]:  # type: ignore[empty-body]
    """A tenant is being erased. Remove what you keep outside its four stores (the
    platform erases those itself) and say how much went, by name. Called again after a
    fault; be idempotent.
    """
