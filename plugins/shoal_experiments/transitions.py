"""What every change of an experiment's state has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from shoal import NotFound, TenantContext, Unavailable

from .repository import Document, Repository


def actor(ctx: TenantContext) -> str:
    """Who makes a change, for the history: the user, else the key's role."""
    return ctx.user or ctx.role


def platform_operations(ctx: TenantContext) -> Any:
    """The platform's own operations, called as this caller.

    Raises:
        Unavailable: The platform's operations are not deployed.
    """
    operations = ctx.capability("platform")
    if operations is None:
        raise Unavailable("the platform's operations are not deployed")
    return operations


async def apply_transition(
    repository: Repository, before: Document, after: Document, action: Callable[[], Awaitable[Any]]
) -> Document:
    """Store the new state, then run its action; restore the old state when that fails.

    Raises:
        Conflict: The experiment was changed at the same time.
    """
    await repository.put(after, before)
    try:
        await action()
    except BaseException:
        await repository.put(before, after)
        raise
    return after


async def stop_assigning(ctx: TenantContext, id: str) -> None:
    """Remove an experiment from the router, if it is there."""
    with suppress(NotFound):
        await platform_operations(ctx).delete_experiment(id=id)
