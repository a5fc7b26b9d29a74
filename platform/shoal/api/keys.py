"""API keys."""

from typing import Any

from fastapi import APIRouter, Depends

from shoal.contract.bounds import Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.names import Identifier, RoleName
from shoal.tenants.records import PublicKey

from .access import is_operator, require_tenant_access, require_to_grant
from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class NewKey(Body):
    role: RoleName
    user: Identifier | None = None


class CreatedKey(PublicKey):
    key: str
    """The credential itself."""


class Keys(Body):
    keys: list[PublicKey]


class RevokedKey(Body):
    revoked: str
    """The key's id."""


@router.post("/tenants/{id}/keys", status_code=201, responses={201: {"model": CreatedKey}, 409: {}})
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


@router.get("/tenants/{id}/keys", responses={200: {"model": Keys}})
async def list_keys(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """List a tenant's keys, without their secrets."""
    require_tenant_access(ctx, id)
    return {"keys": [k.public() for k in await platform.directory.list_keys(id)]}


@router.delete("/keys/{id}", responses={200: {"model": RevokedKey}})
async def delete_key(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """Revoke a key. Takes effect within a second."""
    await platform.directory.revoke_key(id, None if is_operator(ctx) else ctx.tenant)
    return {"revoked": id}
