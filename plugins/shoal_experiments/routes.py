"""HTTP operations: the experiments of the caller's tenant, and the calculators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shoal import (
    Assigner,
    BatchResult,
    Cursor,
    ExperimentRecord,
    Identifier,
    Invalid,
    TenantContext,
    off_loop,
    read_cursor,
    requires,
    rows_body,
    write_cursor,
)

from . import bodies, calculator, lifecycle, promotion, reporting, tuning
from .design import Design
from .exposures import log_exposure
from .history import unseen_event_types
from .metrics import OUTCOME, SERVICE, Name
from .outcomes import MAX_OUTCOMES, Outcome, read_outcomes
from .repository import Document, Repository
from .sample_size import ImpossibleSample
from .summaries import Undefined


def _check_id(id: str) -> str:
    # The last three are paths of their own.
    if id in (".", "..", "docs", "healthz", "openapi.json"):
        raise ValueError("this cannot be an experiment's id")
    return id


Id = Annotated[
    str,
    Path(min_length=1, max_length=120, pattern=r"^[^/\s~\x00-\x1f\x7f]+$"),
    AfterValidator(_check_id),
]
Attribute = Annotated[str, Field(max_length=1024)]
Status = Literal["draft", "running", "stopped", "promoted"]
SAFE = {"x-shoal-safe": True}

router = APIRouter()


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reason(_Body):
    reason: str = Field("", max_length=1000)


class Promotion(_Body):
    """At once without `days`; else over `days`, in `steps` of equal length.

    `steps` are percentages of the units that do not have the winner yet.
    """

    variant: Name | None = None
    override: str = Field(
        "",
        max_length=1000,
        description="The reason, when the verdict is not to ship this variant.",
    )
    days: float = Field(0, ge=0, le=90)
    steps: list[Annotated[float, Field(gt=0, le=100)]] = Field(
        [10, 25, 50, 100], min_length=1, max_length=20
    )


# Calculators


@router.post("/sample-size", openapi_extra=SAFE, responses={200: {"model": bodies.SampleSize}})
def sample_size(
    body: calculator.SampleSize, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """Units per arm needed to detect an effect."""
    try:
        return calculator.sample_size(body)
    except ImpossibleSample as error:
        raise Invalid.at(error.field, str(error)) from None


@router.post("/power", openapi_extra=SAFE, responses={200: {"model": bodies.Power}})
def power(
    body: calculator.Power, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """The power of a number of units, and the smallest effect that they detect."""
    try:
        return calculator.power(body)
    except ImpossibleSample as error:
        field = "true_effect" if error.field == "minimum_effect" else error.field
        raise Invalid.at(field, str(error)) from None


@router.post("/analyze", openapi_extra=SAFE, responses={200: {"model": bodies.Analysis}})
def analyze(
    body: calculator.Analyze, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """Compare arms by their counts or moments."""
    try:
        return calculator.analyze(body)
    except Undefined as error:
        raise _invalid(str(error), "arms", str(error)) from None


@router.post("/bounds", openapi_extra=SAFE, responses={200: {"model": bodies.Bounds}})
def bounds(
    body: calculator.Looks, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """Bounds of a group-sequential plan, and the sample size they cost."""
    try:
        return calculator.bounds(body)
    except ValueError as error:
        raise _invalid(str(error), "times", str(error)) from None


# Experiments


@router.get("", responses={200: {"model": bodies.Experiments}})
async def list_experiments(
    status: Status | None = None,
    limit: int = Query(100, ge=1, le=1000),
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """The tenant's experiments, in order of creation."""
    found = [d for d in await Repository(ctx.stores).all() if status in (None, d.status)]
    after = read_cursor("experiments", cursor, str) or ""
    found = [d for d in found if _position(d) > after]
    page = found[:limit]
    return {
        "experiments": [_summary(d) for d in page],
        "cursor": write_cursor("experiments", _position(page[-1])) if len(found) > limit else None,
    }


@router.put("/{id}", responses={200: {"model": bodies.Experiment}, 409: {}})
async def draft(
    id: Id, body: Design, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Draft an experiment, or replace a draft."""
    if body.experiment_id not in (None, id):
        raise Invalid.at("experiment_id", f"must be the id in the path, {id}")
    return _view(await lifecycle.draft(ctx, id, body))


@router.put("/{id}/proposal", responses={200: {"model": bodies.Experiment}, 409: {}})
async def propose(
    id: Id, body: tuning.Proposal, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Draft an experiment that compares the current parameters with tuned ones.

    The tuned parameters are what `shoal tune` found.
    """
    try:
        design = tuning.proposed_design(body)
    except ValidationError as error:
        faults = [
            {"location": ".".join(["design", *map(str, e["loc"])]), "message": e["msg"]}
            for e in error.errors(include_url=False, include_context=False)
        ]
        raise Invalid("the proposal's design is not valid", errors=faults) from None
    except ValueError as error:
        raise _invalid(str(error), "tuned", str(error)) from None
    return _view(await lifecycle.draft(ctx, id, design))


@router.get("/{id}", responses={200: {"model": bodies.Experiment}})
async def get(id: Id, ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """One experiment: design, state, plan and history."""
    return _view(await Repository(ctx.stores).get(id))


@router.delete("/{id}", responses={200: {"model": bodies.Deleted}, 409: {}})
async def delete(id: Id, ctx: TenantContext = Depends(requires("write:tenant"))) -> dict[str, Any]:
    """Delete an experiment that is not running."""
    await lifecycle.delete(ctx, id)
    return {"deleted": id}


@router.post("/{id}/start", responses={200: {"model": bodies.StartedExperiment}, 409: {}})
async def start(id: Id, ctx: TenantContext = Depends(requires("write:tenant"))) -> dict[str, Any]:
    """Freeze and hash the design, and start assigning units."""
    document = await lifecycle.start(ctx, id)
    types = {
        source.event
        for metric in document.design.metrics()
        for _, source in metric.sources()
        if source.event != OUTCOME and not source.event.startswith(SERVICE)
    }
    unseen = await unseen_event_types(ctx.stores, types, datetime.now(UTC))
    return _view(document) | {
        "warnings": [
            f"no event of type {type!r} was logged in the last 28 days" for type in sorted(unseen)
        ]
    }


@router.post("/{id}/stop", responses={200: {"model": bodies.Experiment}, 409: {}})
async def stop(
    id: Id, body: Reason | None = None, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Stop assigning units; the analysis covers what was observed until now."""
    return _view(await lifecycle.stop(ctx, id, body.reason if body else ""))


@router.post("/{id}/promote", responses={200: {"model": bodies.Experiment}, 409: {}})
async def promote(
    id: Id, body: Promotion | None = None, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Make the winner's parameters the tenant's own, at once or over a ramp.

    A ramp is rolled back when a guardrail shows harm.
    """
    request = body or Promotion.model_validate({})
    document = await Repository(ctx.stores).get(id)
    verdict = None
    if document.status in ("running", "stopped"):
        verdict = (await reporting.report(ctx, document))["verdict"]
    steps = request.steps if request.days > 0 else None
    if steps is not None and (sorted({*steps}) != steps or steps[-1] != 100):
        raise _invalid(
            "steps must increase and end with 100", "steps", "must increase and end with 100"
        )
    promoted = await promotion.promote(
        ctx,
        id,
        variant=request.variant,
        verdict=verdict,
        override=request.override,
        days=request.days,
        steps=steps,
    )
    return _view(promoted)


@router.post("/{id}/rollback", responses={200: {"model": bodies.Experiment}, 409: {}})
async def rollback(
    id: Id, body: Reason | None = None, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Undo a promotion, or end a ramp: restores the tenant's previous values."""
    return _view(await promotion.roll_back(ctx, id, body.reason if body else ""))


@router.get("/{id}/assignment", responses={200: {"model": bodies.Assignment}})
async def assignment(
    id: Id,
    unit: Annotated[Identifier, Query(max_length=512)],
    expose: bool | None = None,
    attribute: Annotated[
        list[Attribute],
        Query(max_length=100, description="An attribute for targeting, as name:value."),
    ] = [],  # noqa: B006
    ctx: TenantContext = Depends(requires("read:own", others="read:tenant")),
) -> dict[str, Any]:
    """A unit's variant; null when it does not take part. A user's own unit is theirs.

    Once a variant is promoted, all units have it.
    In a product experiment, this request is the unit's exposure, unless `expose=false`.
    Where a capability's parameters vary, their first use is the exposure.
    """
    document = await Repository(ctx.stores).get(id)
    if document.design.unit != "user" or unit != ctx.user:
        ctx.require("read:tenant")
    variant, parameters = None, {}
    record, attributes = _assigned_record(document), _attributes(attribute)
    if record is not None:
        assigner = Assigner.compile(record)
        if assigner.targets(attributes):
            variant = assigner.assign(unit)
    elif document.status == "promoted":
        variant = document.winner
    if variant is not None:
        parameters = next(v.parameters for v in document.design.variants if v.name == variant)
    is_exposed = document.design.capability is None if expose is None else expose
    if is_exposed and unit != ctx.user:
        ctx.require("write:tenant")  # it counts in the results
    if variant is not None and record is not None and is_exposed:
        names = [a.name for a in document.design.breakdowns if a.event is None]
        known = {name: attributes[name][0] for name in names if name in attributes}
        await log_exposure(ctx, record, unit, variant, known)
    return {
        "experiment": id,
        "unit": unit,
        "variant": variant,
        "parameters": parameters,
        "status": document.status,
    }


def _assigned_record(document: Document) -> ExperimentRecord | None:
    """What units are assigned by: the running experiment or its ramp, if any."""
    if document.status == "promoting":
        return promotion.ramp_record(document)
    return document.record() if document.status == "running" else None


@router.post(
    "/{id}/outcomes",
    status_code=202,
    openapi_extra=rows_body(Outcome.model_json_schema(), MAX_OUTCOMES),
    responses={202: {"model": BatchResult}, 409: {}},
)
async def add_outcomes(
    id: Id, request: Request, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Record what units did: one outcome, an array of them, or NDJSON.

    An outcome is `{unit, metric?, value?, time?, id?}`. Valid ones are accepted even
    when others are rejected.
    """
    document = await Repository(ctx.stores).get(id)
    if document.started_at is None:
        raise _invalid(
            f"experiment {id!r} is a draft: start it first", "id", "a draft accepts no outcomes"
        )
    content_type = request.headers.get("content-type", "")
    batch = await off_loop(read_outcomes, await request.body(), content_type, document)
    ctx.usage.require("events", len(batch.accepted))
    if batch.accepted:
        await ctx.stores.events.append(list(batch.accepted.values()))
    ctx.usage.add("events", len(batch.accepted))
    return batch.response()


@router.get("/{id}/results", responses={200: {"model": bodies.Results}})
async def results(id: Id, ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """Health at any time; effects and verdict when the registered plan allows it."""
    document = await Repository(ctx.stores).get(id)
    if document.started_at is None:
        raise _invalid(
            f"experiment {id!r} is a draft: it has no results", "id", "a draft has no results"
        )
    return await reporting.report(ctx, document)


def _position(document: Document) -> str:
    """Its place in the list, in order of creation."""
    return f"{document.created_at.isoformat()} {document.id}"


def _invalid(detail: str, location: str, message: str) -> Invalid:
    return Invalid(detail, errors=[{"location": location, "message": message}])


def _summary(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "status": document.status,
        "hypothesis": document.design.hypothesis,
        "capability": document.design.capability,
        "unit": document.design.unit,
        "variants": document.design.arms,
        "primary": document.design.primary.name,
        "analysis": document.design.analysis,
        "created_at": _isoformat(document.created_at),
        "started_at": _isoformat(document.started_at),
        "stopped_at": _isoformat(document.stopped_at),
    }


def _view(document: Document) -> dict[str, Any]:
    dumped = document.model_dump(mode="json", exclude={"looks"})
    ends_at = None
    if document.started_at is not None and document.plan is not None:
        ends_at = document.started_at + timedelta(days=document.plan.duration_days)
    return {**dumped, "ends_at": _isoformat(ends_at)}


def _isoformat(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _attributes(pairs: list[str]) -> dict[str, list[str]]:
    attributes: dict[str, list[str]] = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon:
            raise Invalid.at("query.attribute", "must have the form name:value, such as plan:pro")
        attributes.setdefault(name, []).append(value)
    return attributes
