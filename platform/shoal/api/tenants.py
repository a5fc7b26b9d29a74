"""Tenants and their limits."""

from typing import Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from shoal.contract.bounds import Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.cursors import Cursor, read_cursor, write_cursor
from shoal.contract.errors import Invalid
from shoal.contract.names import TenantId
from shoal.tenants.records import Limits, TenantRecord

from .access import require_tenant_access
from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class NewTenant(Body):
    id: TenantId
    name: str = Field("", max_length=200)


class Tenants(Body):
    tenants: list[TenantRecord]
    cursor: str | None


class ErasedTenant(Body):
    tenant: str
    erased: dict[str, int]
    """How much was erased, by `<where>.<kind>`."""
    remains: dict[str, str]
    """What is still there, and until when, by place."""


class TenantLimits(Body):
    own: dict[str, Limits]
    """By capability; `*` for all together."""
    default: Limits


@router.post("/tenants", status_code=201, responses={201: {"model": TenantRecord}, 409: {}})
async def create_tenant(
    body: NewTenant,
    platform: Platform,
    ctx: TenantContext = Depends(requires("admin:platform")),
) -> dict[str, Any]:
    """Create a tenant. 409 when the id is taken."""
    tenant = await platform.create_tenant(body.id, body.name or None)
    return tenant.model_dump(mode="json")


@router.get("/tenants", responses={200: {"model": Tenants}})
async def list_tenants(
    platform: Platform,
    limit: int = Query(100, ge=1, le=1000),
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("admin:platform")),
) -> dict[str, Any]:
    """List all tenants in the order of their ids, in pages."""
    after = read_cursor("platform.tenants", cursor, str)
    records, last = await platform.directory.list_tenants(limit, after)
    return {
        "tenants": [t.model_dump(mode="json") for t in records],
        "cursor": last and write_cursor("platform.tenants", last),
    }


@router.delete("/tenants/{id}", responses={200: {"model": ErasedTenant}})
async def delete_tenant(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("admin:platform"))
) -> dict[str, Any]:
    """Erase a tenant from every store and plugin.

    Its keys stop working first. The answer counts what was erased, per store, and says
    what remains, and where.
    """
    done = await platform.erase_tenant(id)
    return {"tenant": id, "erased": dict(done.erased), "remains": dict(done.remains)}


@router.get("/tenants/{id}/limits", responses={200: {"model": TenantLimits}})
async def get_limits(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """A tenant's own limits by capability (`*`: all), and the platform's defaults."""
    require_tenant_access(ctx, id)
    own = await platform.directory.get_limits(id)
    return {
        "own": {
            name: limits.model_dump(mode="json", exclude_none=True) for name, limits in own.items()
        },
        "default": platform.config.router.limits.model_dump(mode="json"),
    }


@router.put("/tenants/{id}/limits/{capability}", responses={200: {"model": TenantLimits}, 404: {}})
async def put_limits(
    id: Text,
    capability: Text,
    body: Limits,
    platform: Platform,
    ctx: TenantContext = Depends(requires("admin:platform")),
) -> dict[str, Any]:
    """Set a tenant's limits on one capability, or on all together (`*`), and quotas.

    `{}` restores the platform's defaults.
    """
    if capability != "*":
        platform.capability(capability)
        if body.storage_bytes is not None:
            message = "is of all capabilities together: set it in limits/*"
            errors = [{"location": "storage_bytes", "message": message}]
            raise Invalid(f"storage_bytes: {message}", errors=errors)
    given = body if body.model_dump(exclude_none=True) else None
    await platform.directory.set_limits(id, capability, given)
    return await get_limits(id, platform, ctx)
