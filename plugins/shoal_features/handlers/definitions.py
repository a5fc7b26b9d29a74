"""The registered definitions, and how fresh the features are."""

import time
from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from shoal import Invalid, JsonObject, TenantContext, Text, requires

from ..catalog import catalog, load_registry
from ..errors import RegistryError
from ..freshness import view_freshness
from ..registry import Registry

MAX_VIEWS = 200
"""Views of a tenant, and services as many."""
MAX_SERVED = 500
"""Features of a service."""


class Definitions(BaseModel):
    """A compiled registry, as `shoal features apply` sends it."""

    model_config = ConfigDict(extra="forbid")
    views: list[JsonObject] = Field(max_length=MAX_VIEWS)
    services: dict[Text, Annotated[list[Text], Field(max_length=MAX_SERVED)]] = Field(
        {}, max_length=MAX_VIEWS
    )


async def views(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """The registered views with their features, and the feature services."""
    return {"tenant": ctx.tenant, **(await load_registry(ctx)).to_dict()}


async def apply(
    body: Definitions,
    prune: bool = False,
    dry_run: bool = False,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Register definitions in place of the old ones, all or nothing.

    What the tenant has registered and the body lacks is removed with `prune` only, else
    the answer is 409. With `dry_run`, nothing changes: the answer is what would.
    """
    try:
        registry = Registry.from_dict(body.model_dump())
        changes = await catalog.replace(
            ctx.tenant, ctx.stores.online, registry, prune=prune, dry_run=dry_run
        )
    except RegistryError as error:
        raise Invalid(f"invalid definitions: {error}", errors=error.errors) from error
    return {
        "views": [v.name for v in registry.views],
        "services": list(registry.services),
        **changes,
    }


async def freshness(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """Age, stream lag and lateness of every view.

    With the shares of nulls and the drift of each feature, as last measured.
    """
    registry, now = await load_registry(ctx), time.time_ns() // 1000
    return {"views": await view_freshness(ctx.stores.online, registry, now)}
