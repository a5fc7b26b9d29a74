"""A tenant's own values of a capability's parameters."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, Field, RootModel, ValidationError

from shoal.contract.batch import validation_errors
from shoal.contract.bounds import JsonObject, Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import Invalid, NotFound
from shoal.contract.parameters import Parameters
from shoal.runtime.context import PlatformContext

from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class ParameterValues(Body):
    own: dict[str, Any] = Field(description="The values that the tenant has set, by parameter.")
    effective: dict[str, Any] = Field(description="The value of every parameter.")
    changed_at: dict[str, AwareDatetime] = Field(
        description="When each parameter last got another value, if it ever did."
    )


class EffectiveValues(RootModel[dict[str, Any]]):
    """The value of every parameter of the capability."""


@router.get("/parameters/{capability}", responses={200: {"model": ParameterValues}})
async def get_parameters(
    capability: Text,
    platform: Platform,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """The tenant's own values, and the values in effect with them."""
    defaults = parameters_model(platform, capability)().model_dump(mode="json")
    own = await platform.directory.get_parameters(ctx.tenant, capability)
    changed = await platform.directory.get_changes(ctx.tenant, capability)
    return {"own": own, "effective": {**defaults, **own}, "changed_at": changed}


@router.put("/parameters/{capability}", responses={200: {"model": ParameterValues}, 404: {}})
async def put_parameters(
    capability: Text,
    body: JsonObject,
    platform: Platform,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Replace the tenant's own values; `{}` restores the defaults."""
    validate_values(platform, capability, body)
    before = (await get_parameters(capability, platform, ctx))["effective"]
    defaults = parameters_model(platform, capability)().model_dump(mode="json")
    after = {**defaults, **body}
    changed = [name for name in after if after[name] != before.get(name)]
    await platform.directory.put_parameters(ctx.tenant, capability, body, changed)
    return await get_parameters(capability, platform, ctx)


@router.post(
    "/parameters/{capability}/validate",
    openapi_extra={"x-shoal-safe": True},
    responses={200: {"model": EffectiveValues}},
)
async def validate_parameters(
    capability: Text,
    body: JsonObject,
    platform: Platform,
    ctx: TenantContext = Depends(requires("read:own")),
) -> dict[str, Any]:
    """The effective values, or 422 with the errors. Nothing is stored."""
    return validate_values(platform, capability, body).model_dump(mode="json")


def parameters_model(platform: PlatformContext, capability: str) -> type[Parameters]:
    """The model of a capability's parameters; NotFound where it has none."""
    model = platform.capability(capability).parameters
    if model is None:
        raise NotFound(f"{capability} has no parameters")
    return model


def validate_values(
    platform: PlatformContext, capability: str, values: dict[str, Any], prefix: str = ""
) -> Parameters:
    """The capability's parameters with these values.

    Raises:
        Invalid: With each error and its location, which begins with `prefix`.
    """
    model = parameters_model(platform, capability)
    try:
        return model(**values)
    except ValidationError as error:
        errors = validation_errors(error, prefix)
        raise Invalid(f"invalid parameters of {capability}", errors=errors) from None
