"""The HTTP operations on scenarios."""

from fastapi import APIRouter, Depends, Response

from shoal import Identifier, NotFound, TenantContext, requires

from . import bodies, scenarios
from .responses import answers, json_response, raw_response
from .store import RecordStore, encode

router = APIRouter()


@router.get("/scenarios", responses=answers(bodies.Scenarios))
async def list_scenarios(ctx: TenantContext = Depends(requires("read:tenant"))) -> Response:
    """List the names of the scenarios, at most 100."""
    return json_response({"scenarios": await RecordStore(ctx).ids("scenarios")})


@router.put("/scenarios/{name}", responses=answers(scenarios.Scenario))
async def put_scenario(
    name: Identifier,
    body: scenarios.Scenario,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> Response:
    """Create or replace a scenario: changes to plan with before they are made."""
    await scenarios.put_scenario(ctx, name, body)
    return raw_response(encode(body))


@router.get("/scenarios/{name}", responses=answers(scenarios.Scenario))
async def get_scenario(
    name: Identifier, ctx: TenantContext = Depends(requires("read:tenant"))
) -> Response:
    """Get a scenario."""
    return raw_response(encode(await scenarios.get_scenario(ctx, name)))


@router.delete("/scenarios/{name}", status_code=204)
async def delete_scenario(
    name: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> None:
    """Throw a scenario away. Plans that were made under it stay."""
    if not await RecordStore(ctx).delete("scenarios", name):
        raise NotFound(f"scenario {name!r} not found")
