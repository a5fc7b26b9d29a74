"""The audit log."""

from typing import Any

from fastapi import APIRouter, Depends, Query

from shoal.contract.context import TenantContext, admin

from .services import TenantDirectory

router = APIRouter()


@router.get("/audit")
async def list_audit(
    directory: TenantDirectory,
    limit: int = Query(100, ge=1, le=1000),
    cursor: str | None = None,
    ctx: TenantContext = Depends(admin),
) -> dict[str, Any]:
    """List every write, newest first: who, what, when, and its status."""
    entries, after = await directory.list_audit(ctx.tenant, limit, cursor)
    return {"entries": [e.model_dump(mode="json") for e in entries], "cursor": after}
