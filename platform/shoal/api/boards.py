"""Who may see which board."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import NotFound
from shoal.contract.names import Identifier

from .bodies import Body
from .changes import audit_changes
from .dependencies import Platform

router = APIRouter()


MAX_MEMBERS = 10_000
"""Users who may see one board."""


class Members(Body):
    users: list[Identifier] = Field(max_length=MAX_MEMBERS)


class BoardSize(Body):
    board: Identifier
    members: int


class Board(Body):
    board: Identifier
    users: list[Identifier]


@router.put("/boards/{board}/members", responses={200: {"model": BoardSize}, 409: {}})
async def put_members(
    board: Identifier,
    body: Members,
    request: Request,
    platform: Platform,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Replace the members of a board: the users who may see it.

    For an admin or the tenant's own service: a user could otherwise join any board.
    """
    audit_changes(request, await platform.directory.boards.replace(ctx.tenant, board, body.users))
    return {"board": board, "members": len(set(body.users))}


@router.get("/boards/{board}/members", responses={200: {"model": Board}})
async def get_members(
    board: Identifier, platform: Platform, ctx: TenantContext = Depends(requires("read:boards"))
) -> dict[str, Any]:
    """List the members of a board."""
    if not ctx.may_see(board):
        raise NotFound(f"no board {board!r}")
    return {"board": board, "users": await platform.directory.boards.members(ctx.tenant, board)}
