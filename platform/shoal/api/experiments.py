"""Experiments, as the router assigns users to them."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import ValidationError

from shoal.contract.batch import validation_errors
from shoal.contract.bounds import JsonObject, Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import Invalid
from shoal.contract.experiments import ExperimentRecord
from shoal.contract.names import Identifier

from .access import is_operator
from .bodies import Body, Deleted
from .dependencies import Platform
from .parameters import validate_values

router = APIRouter()


class Experiments(Body):
    experiments: list[ExperimentRecord]


@router.put("/experiments/{id}", responses={200: {"model": ExperimentRecord}, 404: {}})
async def put_experiment(
    id: Identifier,
    body: JsonObject,
    platform: Platform,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Store an experiment for the router to assign.

    The variants' values are checked against the capability's parameters.
    """
    owner = None if is_operator(ctx) else ctx.tenant
    try:
        record = ExperimentRecord.model_validate({**body, "id": id, "tenant": owner})
    except ValidationError as error:
        raise Invalid("invalid experiment", errors=validation_errors(error)) from None
    for variant in record.variants:
        if not variant.parameters:
            continue
        if record.capability is None:
            raise Invalid.at(
                "capability", f"variant {variant.name} has parameters, so it is required"
            )
        prefix = f"variants.{variant.name}.parameters."
        validate_values(platform, record.capability, variant.parameters, prefix)
    await platform.directory.put_experiment(record)
    return record.model_dump(mode="json")


@router.get("/experiments", responses={200: {"model": Experiments}})
async def list_experiments(
    platform: Platform, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """List the experiments that assign this tenant's units.

    They are its own, and the operator's on all tenants, whose `tenant` is null.
    """
    found = await platform.directory.list_experiments(ctx.tenant)
    if not is_operator(ctx):
        found += await platform.directory.list_experiments(None)
    return {"experiments": [e.model_dump(mode="json") for e in found]}


@router.get("/experiments/{id}", responses={200: {"model": ExperimentRecord}})
async def get_experiment(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """One experiment as the router knows it."""
    return (await platform.directory.get_experiment(ctx.tenant, id)).model_dump(mode="json")


@router.delete("/experiments/{id}", responses={200: {"model": Deleted}})
async def delete_experiment(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Delete an experiment. Nobody is assigned to it any more."""
    await platform.directory.delete_experiment(ctx.tenant, id)
    return {"deleted": id}
