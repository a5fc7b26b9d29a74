"""The audit log."""

from typing import Any

from fastapi import APIRouter, Depends, Query

from shoal.contract.context import TenantContext, requires
from shoal.contract.cursors import Cursor, read_cursor, write_cursor
from shoal.tenants.records import AuditEntry

from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class AuditPage(Body):
    entries: list[AuditEntry]
    cursor: str | None


@router.get("/audit", responses={200: {"model": AuditPage}})
async def list_audit(
    platform: Platform,
    limit: int = Query(100, ge=1, le=1000),
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("admin:tenant")),
) -> dict[str, Any]:
    """List every write, newest first: who, what, when, and its status."""
    before = read_cursor("platform.audit", cursor, str)
    entries, last = await platform.directory.list_audit(ctx.tenant, limit, before)
    return {
        "entries": [e.model_dump(mode="json") for e in entries],
        "cursor": last and write_cursor("platform.audit", last),
    }
