"""The hooks that a plugin may implement.

A plugin is a module or object, registered as an entry point of the group `shoal`.
"""

from collections.abc import Callable, Mapping, Sequence

import pluggy

from .capability import Capability
from .context import TenantContext
from .events import Event

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


@hookspec
async def shoal_entity_events(  # type: ignore[empty-body]
    ctx: TenantContext, entity: str, id: str
) -> Callable[[Event], bool]:
    """Which events are about an entity, such as the user 123, by what the plugin knows.

    The platform itself finds those that name it in `data.user_id` or `data.user`.

    Args:
        ctx: The service's context in the tenant.
        entity: The entity's type, such as `user`.
        id: The entity's id.

    Returns:
        Whether an event is about the entity; events without its id in one of their
        texts need not be recognised.
    """


@hookspec
async def shoal_events_retracted(  # type: ignore[empty-body]
    ctx: TenantContext, events: Sequence[Event]
) -> Mapping[str, int]:
    """Undo what events did, which are in the log and the archive no more.

    Must be idempotent: it is called again after an error.

    Args:
        ctx: The service's context in the tenant.
        events: At most a thousand.

    Returns:
        How many objects were changed, by their kind.
    """


@hookspec
async def shoal_entity_erased(  # type: ignore[empty-body]
    ctx: TenantContext, entity: str, id: str
) -> Mapping[str, int]:
    """Erase what the plugin has of an entity, such as the user 123.

    Its events are retracted afterwards. Must be idempotent: it is called again after an
    error.

    Args:
        ctx: The service's context in the tenant.
        entity: The entity's type, such as `user`.
        id: The entity's id.

    Returns:
        How many objects were erased, by their kind.
    """
