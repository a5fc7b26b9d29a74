"""API keys."""

from typing import Any

from fastapi import APIRouter, Depends

from shoal.contract.bounds import Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.names import Identifier, RoleName

from .access import is_operator, require_tenant_access, require_to_grant
from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class NewKey(Body):
    role: RoleName
    user: Identifier | None = None


@router.post("/tenants/{id}/keys", status_code=201, responses={409: {}})
async def create_key(
    id: Text,
    body: NewKey,
    platform: Platform,
    ctx: TenantContext = Depends(requires("admin:tenant")),
) -> dict[str, Any]:
    """Create an API key, with no more rights than your own.

    It is shown in this answer only: the platform stores nothing but its hash.
    """
    require_tenant_access(ctx, id)
    rights = await platform.directory.roles.rights(id, body.role, body.user)
    require_to_grant(ctx, rights, body.user)
    record, key = await platform.directory.create_key(id, body.role, user=body.user)
    return {**record.public(), "key": key}


@router.get("/tenants/{id}/keys")
async def list_keys(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """List a tenant's keys, without their secrets."""
    require_tenant_access(ctx, id)
    return {"keys": [k.public() for k in await platform.directory.list_keys(id)]}


@router.delete("/keys/{id}")
async def delete_key(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """Revoke a key. Takes effect within a second."""
    await platform.directory.revoke_key(id, None if is_operator(ctx) else ctx.tenant)
    return {"revoked": id}
