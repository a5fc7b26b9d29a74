"""What is deployed, and who is asking."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import Field

from shoal.contract.context import TenantContext, requires
from shoal.contract.rights import Right
from shoal.router.replica_watch import replica_warnings
from shoal.runtime.context import PlatformContext
from shoal.runtime.status import describe_capability

from .access import is_operator
from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class Credential(Body):
    tenant: str
    name: str
    """The tenant's."""
    role: str
    rights: list[Right]
    user: str | None


class CapabilityState(Body):
    name: str
    version: str
    summary: str
    status: str
    """As Serve reports it, such as `RUNNING`; `NOT_DEPLOYED` where it knows nothing."""
    message: str
    parameters: dict[str, Any] | None = Field(description="The JSON schema of its parameters.")
    jobs: list[str]
    streams: list[str]
    page: bool
    """Whether the console has a page of it."""
    warnings: list[str] = Field([], description="Of its replicas; for the operator only.")


class PluginProblem(Body):
    plugin: str
    cause: str


class Capabilities(Body):
    capabilities: list[CapabilityState]
    problems: list[PluginProblem]


@router.get("/whoami", responses={200: {"model": Credential}})
async def whoami(
    platform: Platform, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """Whom the credential stands for: the tenant, the role, its rights, the user."""
    name = (
        "Platform" if is_operator(ctx) else (await platform.directory.get_tenant(ctx.tenant)).name
    )
    return {
        "tenant": ctx.tenant,
        "name": name,
        "role": ctx.role,
        "rights": sorted(ctx.rights),
        "user": ctx.user,
    }


@router.get("/capabilities", responses={200: {"model": Capabilities}})
async def list_capabilities(
    platform: Platform, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """List the capabilities: name, version, status, and the schema of the parameters.

    Plugins that failed to load are listed with the cause. The operator sees the
    warnings of the replicas: blocked event loops of the last hour, and grown memory.
    """
    found = await describe_capabilities(platform)
    if is_operator(ctx):
        for capability in found:
            capability["warnings"] = await replica_warnings(platform.directory, capability["name"])
    return {
        "capabilities": found,
        "problems": [{"plugin": p.plugin, "cause": p.cause} for p in platform.plugins.problems],
    }


async def describe_capabilities(platform: PlatformContext) -> list[dict[str, Any]]:
    """Each capability with the state that Serve reports."""
    states = await platform.states()
    found = []
    for name, capability in platform.capabilities.items():
        state = states.get(name, {"status": "NOT_DEPLOYED", "message": ""})
        shown = {"status": state["status"], "message": state["message"]}
        found.append(describe_capability(capability) | shown)
    return found
