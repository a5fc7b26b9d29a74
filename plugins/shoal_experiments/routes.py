"""HTTP: the experiments of the caller's tenant, and the two calculators."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shoal import (
    Assigner,
    Event,
    Identifier,
    Invalid,
    Malformed,
    Services,
    TenantContext,
    current_tenant,
    editor,
    reader,
)

from . import calculator, lifecycle, reporting, tuning
from .aggregation import EXPOSURE
from .design import OUTCOME, Design, Finite, Name
from .history import never_seen
from .repository import Document, Documents
from .summaries import Undefined

Id = Annotated[str, Path(min_length=1, max_length=120, pattern=r"^[^/\s~\x00-\x1f\x7f]+$")]
SAFE = {"x-shoal-safe": True}
MOST_OUTCOMES = 10_000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reason(_Body):
    reason: str = Field("", max_length=1000)


class Promotion(_Body):
    """Without `days` at once; with, over `steps` (percent of the units), each as long
    as the others.
    """

    variant: Name | None = None
    override: str = Field(
        "", max_length=1000, description="Why, when the verdict is not to ship this variant."
    )
    days: float = Field(0, ge=0, le=90)
    steps: list[Annotated[float, Field(gt=0, le=100)]] = Field(
        [10, 25, 50, 100], min_length=1, max_length=20
    )


class Outcome(_Body):
    """What one unit did. `id` makes sending it twice harmless."""

    unit: Identifier
    metric: Name | None = Field(None, description="The primary metric when not given.")
    value: Finite = 1.0
    time: AwareDatetime | None = None
    id: Identifier | None = None
    data: dict[str, Any] = {}


def build(services: Services) -> APIRouter:
    router = APIRouter()

    # Calculators

    @router.post("/sample-size", openapi_extra=SAFE)
    def sample_size(
        body: calculator.SampleSize, ctx: TenantContext = Depends(reader)
    ) -> dict[str, Any]:
        """Units per arm needed to find an effect."""
        try:
            return calculator.sample_size(body)
        except ValueError as error:
            raise Invalid(
                str(error), errors=[{"location": "minimum_effect", "message": str(error)}]
            ) from None

    @router.post("/analyze", openapi_extra=SAFE)
    def analyze(body: calculator.Analyze, ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """Compare arms by their counts or moments."""
        try:
            return calculator.analyze(body)
        except Undefined as error:
            raise Invalid(
                str(error), errors=[{"location": "arms", "message": str(error)}]
            ) from None

    @router.post("/bounds", openapi_extra=SAFE)
    def bounds(body: calculator.Looks, ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """Bounds of a group-sequential plan, and what it costs."""
        try:
            return calculator.looks(body)
        except ValueError as error:
            raise Invalid(
                str(error), errors=[{"location": "times", "message": str(error)}]
            ) from None

    # Experiments

    @router.get("")
    async def list_experiments(
        status: str | None = None,
        limit: int = Query(100, ge=1, le=1000),
        cursor: str = "",
        ctx: TenantContext = Depends(current_tenant),
    ) -> dict[str, Any]:
        """The tenant's experiments, in order of creation."""
        found = [d for d in await Documents(ctx.stores).all() if status in (None, d.status)]
        ids = [d.id for d in found]
        if cursor:
            if cursor not in ids:
                raise Invalid(
                    "the cursor is of no experiment",
                    errors=[{"location": "cursor", "message": "unknown"}],
                )
            found = found[ids.index(cursor) + 1 :]
        page = found[:limit]
        return {
            "experiments": [brief(d) for d in page],
            "cursor": page[-1].id if len(found) > limit else None,
        }

    @router.put("/{id}")
    async def draft(id: Id, body: Design, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Draft an experiment, or replace a draft."""
        return view(await lifecycle.draft(ctx, id, body))

    @router.put("/{id}/proposal")
    async def propose(
        id: Id, body: tuning.Proposal, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Draft an experiment of tuned parameters: the present values against those
        that `shoal tune` found.
        """
        try:
            design = tuning.design_of(body)
        except ValidationError as error:
            faults = [
                {"location": ".".join(["design", *map(str, e["loc"])]), "message": e["msg"]}
                for e in error.errors(include_url=False, include_context=False)
            ]
            raise Invalid("no design follows from the proposal", errors=faults) from None
        except ValueError as error:
            raise Invalid(
                str(error), errors=[{"location": "tuned", "message": str(error)}]
            ) from None
        return view(await lifecycle.draft(ctx, id, design))

    @router.get("/{id}")
    async def get(id: Id, ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """One experiment: design, state, plan and history."""
        return view(await Documents(ctx.stores).get(id))

    @router.delete("/{id}")
    async def delete(id: Id, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Remove an experiment that does not run."""
        await lifecycle.delete(ctx, id)
        return {"deleted": id}

    @router.post("/{id}/start")
    async def start(id: Id, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Freeze and hash the design, and begin to assign."""
        document = await lifecycle.start(ctx, id)
        types = {
            s.event
            for m in document.design.metrics()
            for _, s in m.sources()
            if s.event != OUTCOME and not s.event.startswith("service.")
        }
        unseen = sorted(await never_seen(ctx.stores, types, datetime.now(UTC))) if types else []
        return view(document) | {
            "warnings": [
                f"nobody has logged an event of type {t!r} in the last 28 days" for t in unseen
            ]
        }

    @router.post("/{id}/stop")
    async def stop(
        id: Id, body: Reason | None = None, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Stop assigning; what was observed until now is what is analysed."""
        return view(await lifecycle.stop(ctx, id, body.reason if body else ""))

    @router.post("/{id}/promote")
    async def promote(
        id: Id, body: Promotion | None = None, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Make the winner's parameters the tenant's, at once or over a ramp that a
        broken guardrail rolls back.
        """
        wanted = body or Promotion.model_validate({})
        document = await Documents(ctx.stores).get(id)
        verdict = None
        if document.status in ("running", "stopped"):
            verdict = (await reporting.report(ctx, document))["verdict"]
        steps = wanted.steps if wanted.days > 0 else None
        if steps is not None and (sorted({*steps}) != steps or steps[-1] != 100):
            raise Invalid(
                "steps must increase and end with 100",
                errors=[{"location": "steps", "message": "must increase and end with 100"}],
            )
        return view(
            await lifecycle.promote(
                ctx,
                id,
                variant=wanted.variant,
                verdict=verdict,
                override=wanted.override,
                days=wanted.days,
                steps=steps,
            )
        )

    @router.post("/{id}/rollback")
    async def rollback(
        id: Id, body: Reason | None = None, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Undo a promotion, or end a ramp: the tenant's values are what they were."""
        return view(await lifecycle.rollback(ctx, id, body.reason if body else ""))

    @router.get("/{id}/assignment")
    async def assignment(
        id: Id,
        unit: Annotated[Identifier, Query(max_length=512)],
        expose: bool | None = None,
        attribute: Annotated[
            list[str], Query(description="What targeting asks for, as name:value")
        ] = [],  # noqa: B006
        ctx: TenantContext = Depends(current_tenant),
    ) -> dict[str, Any]:
        """A unit's variant; null when it takes no part. Asking about a product
        experiment is the unit's exposure, unless `expose=false`; where a capability's
        parameters vary, their first use is.
        """
        document = await Documents(ctx.stores).get(id)
        variant, parameters = None, {}
        if document.status == "running":
            assigner = Assigner.compile(
                document.design.record(id, status="running", layer_range=document.layer_range)
            )
            if assigner.targets(_attributes(attribute)):
                variant = assigner.assign(unit)
        if variant is not None:
            parameters = next(v.parameters for v in document.design.variants if v.name == variant)
            if expose if expose is not None else document.design.capability is None:
                await _expose(ctx, document, unit, variant)
        return {
            "experiment": id,
            "unit": unit,
            "variant": variant,
            "parameters": parameters,
            "status": document.status,
        }

    @router.post(
        "/{id}/outcomes",
        status_code=202,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"type": "array", "items": Outcome.model_json_schema()}
                    },
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            }
        },
    )
    async def add_outcomes(
        id: Id, request: Request, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """What units did: one outcome, an array, or NDJSON of `{unit, metric?, value?,
        time?, id?}`. Good ones are taken.
        """
        document = await Documents(ctx.stores).get(id)
        if document.started_at is None:
            raise Invalid(
                f"experiment {id!r} is a draft: start it first",
                errors=[{"location": "id", "message": "a draft takes no outcomes"}],
            )
        events, rejected = outcome_events(
            document, _rows(await request.body(), request.headers.get("content-type", ""))
        )
        if events:
            await ctx.stores.events.append(events)
        return {"accepted": len(events), "rejected": rejected}

    @router.get("/{id}/results")
    async def results(id: Id, ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """Health at any time; effects, intervals, p-values and the verdict when the
        registered plan allows them.
        """
        document = await Documents(ctx.stores).get(id)
        if document.started_at is None:
            raise Invalid(
                f"experiment {id!r} is a draft: it has no results",
                errors=[{"location": "id", "message": "a draft has no results"}],
            )
        return await reporting.report(ctx, document)

    return router


def brief(d: Document) -> dict[str, Any]:
    return {
        "id": d.id,
        "status": d.status,
        "hypothesis": d.design.hypothesis,
        "capability": d.design.capability,
        "unit": d.design.unit,
        "variants": d.design.arms,
        "primary": d.design.primary.name,
        "analysis": d.design.analysis,
        "created_at": _time(d.created_at),
        "started_at": _time(d.started_at),
        "stopped_at": _time(d.stopped_at),
    }


def view(d: Document) -> dict[str, Any]:
    dumped = d.model_dump(mode="json", exclude={"looks"})
    if d.started_at is not None and d.plan is not None:
        dumped["ends_at"] = _time(d.started_at + timedelta(days=d.plan.duration_days))
    return dumped


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _attributes(pairs: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon:
            raise Invalid(
                "an attribute is name:value", errors=[{"location": "attribute", "message": pair}]
            )
        found.setdefault(name, []).append(value)
    return found


async def _expose(ctx: TenantContext, document: Document, unit: str, variant: str) -> None:
    """Log the unit's first exposure: at least once, and with one id however often (the
    router's, for those it logs).
    """
    unit_type = document.design.unit
    digest = hashlib.sha1(
        "\0".join((document.id, variant, unit_type, unit)).encode(), usedforsecurity=False
    )
    key = lifecycle.exposed_key(document.id)
    if await ctx.stores.online.sismember(key, digest.digest()):
        return
    data = {
        "experiment": document.id,
        "variant": variant,
        "unit": unit,
        "unit_type": unit_type,
        "capability": document.design.capability,
    }
    await ctx.stores.events.append(
        [
            Event(
                id=digest.hexdigest(), source="shoal/router", type=EXPOSURE, subject=unit, data=data
            )
        ]
    )
    await ctx.stores.online.sadd(key, digest.digest())
    await ctx.stores.online.expire(key, 180 * 86_400)


def _rows(body: bytes, content_type: str) -> list[Any]:
    """The body's outcomes: a JSON object or array, or a line each."""
    try:
        if "ndjson" in content_type:
            rows = [orjson.loads(line) for line in body.splitlines() if line.strip()]
        else:
            parsed = orjson.loads(body)
            rows = parsed if isinstance(parsed, list) else [parsed]
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if len(rows) > MOST_OUTCOMES:
        raise Invalid(
            f"at most {MOST_OUTCOMES:,} outcomes at a time",
            errors=[{"location": "body", "message": f"{len(rows):,} outcomes"}],
        )
    return rows


def outcome_events(document: Document, rows: list[Any]) -> tuple[list[Event], list[dict[str, Any]]]:
    """Events of the good rows, and what is wrong with the others."""
    metrics = [
        m.name for m in document.design.metrics() if any(s.event == OUTCOME for _, s in m.sources())
    ]
    events, rejected = [], []
    for index, row in enumerate(rows):
        try:
            outcome = Outcome.model_validate(row)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            rejected.append(
                {"index": index, "error": f"{where}: {first['msg']}" if where else first["msg"]}
            )
            continue
        metric = outcome.metric or document.design.primary.name
        if metric not in metrics:
            known = (
                f"outcomes are posted for {', '.join(metrics)}"
                if metrics
                else "all metrics of this experiment come from logged events"
            )
            rejected.append(
                {"index": index, "error": f"metric: {metric!r} takes no posted outcomes; {known}"}
            )
            continue
        data = {**outcome.data, "experiment": document.id, "metric": metric, "value": outcome.value}
        source = f"experiments/{document.id}/{metric}"  # by metric: one order, by its id, may be an outcome of several
        fields: dict[str, Any] = {
            "source": source,
            "type": OUTCOME,
            "subject": outcome.unit,
            "data": data,
        }
        if outcome.time is not None:
            fields["time"] = outcome.time
        if outcome.id is not None:
            fields["id"] = outcome.id
        events.append(Event(**fields))
    return events, rejected
