"""What may happen to an experiment, and when: draft → running → stopped → promoted."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from shoal import (
    Conflict,
    ExperimentRecord,
    Invalid,
    NotFound,
    TenantContext,
    Unavailable,
    overlapping_experiments,
)

from . import observations
from .design import MOST_DAYS, RAMP, Design
from .history import USUAL, history, horizon
from .repository import Document, Documents, Plan, Ramp

BUCKETS = 10_000


def who(ctx: TenantContext) -> str:
    return ctx.user or f"{ctx.role}"


def platform(ctx: TenantContext) -> Any:
    operations = ctx.capability("platform")
    if operations is None:
        raise Unavailable("the platform's own operations are not deployed")
    return operations


async def _stored(
    documents: Documents, before: Document, after: Document, act: Callable[[], Awaitable[Any]]
) -> Document:
    """Store the new state, then do what it says; when that fails, the state is what it
    was.
    """
    await documents.put(after, before)
    try:
        await act()
    except BaseException:
        await documents.put(before, after)
        raise
    return after


async def draft(ctx: TenantContext, id: str, design: Design) -> Document:
    """Store a design, in place of another draft. Conflict once the experiment has
    started.
    """
    documents = Documents(ctx.stores)
    before = await documents.find(id)
    if before is not None and before.status != "draft":
        raise Conflict(
            f"experiment {id!r} is {before.status}: its design was frozen at the start and cannot be edited"
        )
    await check_overrides(ctx, design)
    plan = await plan_of(ctx, id, design)
    document = Document(id=id, design=design) if before is None else before
    return await documents.put(
        document.changed(who(ctx), "drafted", design=design, plan=plan), before
    )


async def check_overrides(ctx: TenantContext, design: Design) -> None:
    """Invalid when the capability or a parameter does not exist, or a value is outside
    its bounds.
    """
    if design.capability is None:
        return
    faults: list[Mapping[str, Any]] = []
    for index, variant in enumerate(design.variants):
        try:
            await platform(ctx).validate_parameters(
                capability=design.capability, body=variant.parameters
            )
        except NotFound as error:
            raise Invalid(
                f"capability {design.capability!r} has no parameters to vary: {error.detail}",
                errors=[{"location": "capability", "message": error.detail}],
            ) from None
        except Invalid as error:
            faults += [
                {
                    **fault,
                    "location": f"variants.{index}.parameters.{fault.get('location', '')}".rstrip(
                        "."
                    ),
                }
                for fault in error.errors
            ] or [{"location": f"variants.{index}.parameters", "message": error.detail}]
    if faults:
        raise Invalid(
            f"the overrides are not valid parameters of {design.capability}", errors=faults
        )


async def plan_of(ctx: TenantContext, id: str, design: Design) -> Plan | None:
    """Units per arm and duration, from the design or from history; None when neither
    says enough.
    """
    notes = []
    baseline, variance, per_day = design.baseline, design.variance, design.units_per_day
    needs_history = (
        baseline is None or (variance is None and not design.primary.binary)
    ) and design.minimum_sample_size is None
    past = None
    if needs_history or (design.duration_days is None and per_day is None):
        past = await history(ctx.stores, ctx.tenant, design, id, datetime.now(UTC))
    if past is not None:
        notes.append(f"history: {past.units:,} units in the last {past.days} days")
        baseline = past.baseline if baseline is None else baseline
        variance = past.variance if variance is None else variance
        per_day = past.units_per_day if per_day is None else per_day
    if design.effect == "relative" and baseline is not None and baseline <= 0:
        fault = {"location": "effect", "message": f"the primary metric's baseline is {baseline:g}"}
        raise Invalid("a relative effect needs a baseline above zero", errors=[fault])
    try:
        per_arm = design.minimum_sample_size or design.sample_size(baseline, variance)
    except ValueError as error:
        raise Invalid(
            f"no sample size follows from the design: {error}",
            errors=[{"location": "minimum_effect", "message": str(error)}],
        ) from None
    if per_arm is None:
        return None
    if per_arm > 10**12:
        raise Invalid(
            "minimum_effect is too small: no sample could find it",
            errors=[{"location": "minimum_effect", "message": f"{per_arm} units per arm"}],
        )
    duration = design.duration_days
    if duration is None and per_day is not None:
        duration = design.weeks(per_arm, per_day)
        if duration is not None and duration > MOST_DAYS:
            fault = {
                "location": "minimum_effect",
                "message": f"{per_arm:,} units per arm at {per_day:g} units a day",
            }
            raise Invalid(
                f"it would take {duration:,.0f} days, and {MOST_DAYS} are the most: look for a larger effect, or give `duration_days`",
                errors=[fault],
            )
        if duration is not None:
            notes.append("duration: whole weeks until the smallest arm is full")
    if duration is None:
        duration = USUAL
        notes.append(
            "duration: two weeks, as neither the design nor history says how many units come in a day"
        )
    total = math.ceil(per_arm / min(design.shares().values()))
    return Plan(
        per_arm=per_arm,
        total=total,
        duration_days=duration,
        baseline=baseline,
        variance=variance,
        units_per_day=per_day,
        notes=notes,
    )


async def start(ctx: TenantContext, id: str) -> Document:
    """Freeze the design, keep its hash, and let the router assign."""
    documents = Documents(ctx.stores)
    before = await documents.get(id)
    if before.status != "draft":
        raise Conflict(f"experiment {id!r} is {before.status}: only a draft can be started")
    design = before.design
    await check_overrides(ctx, design)
    plan = await plan_of(ctx, id, design)
    if plan is None:
        raise Invalid(
            f"how large a sample does it need? Nobody has logged {design.primary.name!r} (events {design.primary.event!r}) in the last {horizon(design)} days: "
            "give `baseline` (and `variance` for anything but a proportion), or `minimum_sample_size`",
            errors=[{"location": "baseline", "message": "needed, as there is no history"}],
        )
    others = [
        ExperimentRecord.model_validate(r)
        for r in (await platform(ctx).list_experiments())["experiments"]
    ]
    running = [r for r in others if r.status == "running" and r.id != id]
    layer_range = _free(design, running)
    record = design.record(id, status="running", layer_range=layer_range)
    _no_collision(record, running)
    after = before.changed(
        who(ctx),
        f"started: design frozen, sha256 {design.hash()}",
        status="running",
        hash=design.hash(),
        plan=plan,
        layer_range=layer_range,
        started_at=datetime.now(UTC),
    )
    return await _stored(
        documents,
        before,
        after,
        lambda: platform(ctx).put_experiment(id=id, body=record.model_dump(mode="json")),
    )


def _free(design: Design, running: list[ExperimentRecord]) -> tuple[int, int] | None:
    """The first free range of the design's layer that is wide enough. Conflict when the
    layer is too full.
    """
    if design.layer is None:
        return None
    taken = sorted(
        r.layer_range for r in running if r.layer == design.layer.name and r.layer_range is not None
    )
    width, at = max(1, round(design.layer.percent * BUCKETS / 100)), 0
    for low, high in [*taken, (BUCKETS, BUCKETS)]:
        if low - at >= width:
            return at, at + width
        at = max(at, high)
    used = sum(high - low for low, high in taken) / BUCKETS * 100
    raise Conflict(
        f"layer {design.layer.name!r} has no free range of {design.layer.percent:g} percent: {used:g} percent are taken by "
        f"{', '.join(r.id for r in running if r.layer == design.layer.name)}"
    )


def _no_collision(record: ExperimentRecord, running: list[ExperimentRecord]) -> None:
    """Two experiments that vary one parameter for the same unit would each measure the
    other.
    """
    if overlapping_experiments([record, *running]):
        raise Conflict("the experiment's range in its layer overlaps another's")
    mine = {name for v in record.variants for name in v.parameters}
    for other in running:
        shared = mine & {name for v in other.variants for name in v.parameters}
        exclusive = record.layer is not None and record.layer == other.layer
        if other.capability == record.capability and shared and not exclusive:
            raise Conflict(
                f"experiment {other.id!r} already varies {', '.join(sorted(shared))}: put both into one layer, or wait for it to end"
            )


async def stop(ctx: TenantContext, id: str, reason: str = "") -> Document:
    """Nobody is assigned any more; what was observed until now is what will be
    analysed.
    """
    documents = Documents(ctx.stores)
    before = await documents.get(id)
    if before.status != "running":
        raise Conflict(f"experiment {id!r} is {before.status}: only a running one can be stopped")
    after = before.changed(
        who(ctx),
        "stopped" + (f": {reason}" if reason else ""),
        status="stopped",
        stopped_at=datetime.now(UTC),
    )
    return await _stored(documents, before, after, lambda: _unassign(ctx, id))


async def _unassign(ctx: TenantContext, id: str) -> None:
    with suppress(NotFound):
        await platform(ctx).delete_experiment(id=id)


async def delete(ctx: TenantContext, id: str) -> None:
    """Remove an experiment that does not run, and what was made of its data."""
    documents = Documents(ctx.stores)
    document = await documents.get(id)
    if document.status in ("running", "promoting"):
        raise Conflict(f"experiment {id!r} is {document.status}: stop it first")
    if document.started_at is not None:
        await observations.forget(observations.Scope.of(document, ctx.stores, ctx.tenant))
    await documents.delete(document)
    await ctx.stores.online.delete(exposed_key(id))


def exposed_key(id: str) -> tuple[str, ...]:
    """Set of the exposures that this capability has logged (those of capabilities'
    parameters are the router's to log).
    """
    return ("experiments", "exposed", id)


# Promotion


def ramp_id(id: str) -> str:
    return f"{id}{RAMP}"


async def promote(
    ctx: TenantContext,
    id: str,
    *,
    variant: str | None,
    verdict: Mapping[str, Any] | None,
    override: str = "",
    days: float = 0,
    steps: list[float] | None = None,
) -> Document:
    """Make the winner's parameters the tenant's values, at once or over a ramp. Without
    a verdict of ship, an `override` must say why.
    """
    documents = Documents(ctx.stores)
    before = await documents.get(id)
    if before.status not in ("running", "stopped"):
        raise Conflict(
            f"experiment {id!r} is {before.status}: only a running or stopped one can be promoted"
        )
    winner = variant or (verdict or {}).get("winner")
    if winner is None:
        raise Conflict(
            "there is no winner to promote: name a variant and give an override that says why"
        )
    if winner not in before.design.arms:
        raise Invalid(
            f"{winner!r} is no variant of {id!r}",
            errors=[{"location": "variant", "message": f"one of {', '.join(before.design.arms)}"}],
        )
    decided = (verdict or {}).get("decision")
    if (decided != "ship" or (verdict or {}).get("winner") != winner) and not override:
        raise Conflict(
            f"the verdict is {decided or 'not yet known'}, not to ship {winner}: promoting it needs an `override` that says why"
        )
    if winner == before.design.control and steps:
        raise Invalid(
            "the control is what everybody has already: there is nothing to ramp",
            errors=[{"location": "days", "message": "must be 0"}],
        )
    if before.design.capability is None and steps:
        raise Invalid(
            "a product experiment has no parameters to ramp",
            errors=[{"location": "days", "message": "must be 0"}],
        )
    now = datetime.now(UTC)
    said = f"promoted {winner}" + (f" against the verdict: {override}" if decided != "ship" else "")
    stopped = before.stopped_at or now
    if steps:
        ramp = Ramp(variant=winner, steps=steps, days=days, started_at=now)
        after = before.changed(
            who(ctx),
            f"{said}, over {days:g} days",
            status="promoting",
            stopped_at=stopped,
            ramp=ramp,
        )
        await _stored(documents, before, after, lambda: assign_ramp(ctx, after))
        await _unassign(ctx, id)
        return after
    previous, values = await _promoted_values(ctx, before.design, winner)
    after = before.changed(
        who(ctx), said, status="promoted", stopped_at=stopped, promoted=values, previous=previous
    )
    await _stored(documents, before, after, lambda: _set(ctx, before.design.capability, values))
    await _unassign(ctx, id)
    return after


async def _set(
    ctx: TenantContext, capability: str | None, values: Mapping[str, Any] | None
) -> None:
    """Make these the tenant's own values. A product experiment has none to set."""
    if capability is not None and values is not None:
        await platform(ctx).put_parameters(capability=capability, body=values)


async def _promoted_values(
    ctx: TenantContext, design: Design, winner: str
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The tenant's own values before, and with the winner's in them. Parameters that
    the losers varied and the winner does not set keep the tenant's.
    """
    parameters = next(dict(v.parameters) for v in design.variants if v.name == winner)
    if design.capability is None:
        return None, parameters
    own = dict((await platform(ctx).get_parameters(capability=design.capability))["own"])
    return own, {**own, **parameters}


def ramp_design(document: Document) -> Design:
    """The ramp as an experiment: the winner against the control, at the present step.
    The winner comes first, so that a growing share moves nobody back.
    """
    assert document.ramp is not None
    design, ramp = document.design, document.ramp
    share = ramp.steps[ramp.step]
    winner = next(v for v in design.variants if v.name == ramp.variant)
    control = next(v for v in design.variants if v.name == design.control)
    arms = (
        winner.model_copy(update={"allocation": share}),
        control.model_copy(update={"allocation": 100 - share}),
    )
    return design.model_copy(
        update={"variants": arms, "traffic": 100.0, "layer": None, "targeting": (), "holdout": None}
    )


async def assign_ramp(ctx: TenantContext, document: Document) -> None:
    record = ramp_design(document).record(ramp_id(document.id), status="running")
    await platform(ctx).put_experiment(id=record.id, body=record.model_dump(mode="json"))


def due_step(ramp: Ramp, now: datetime) -> int:
    """The step that the ramp should be at: equal times for each; past the last, the
    number of steps.
    """
    if ramp.days <= 0:
        return len(ramp.steps)
    elapsed = (now - ramp.started_at) / timedelta(days=ramp.days)
    return min(len(ramp.steps), int(elapsed * len(ramp.steps)))


async def advance(ctx: TenantContext, document: Document, broken: str, now: datetime) -> Document:
    """Move a ramp on: back to the control when a guardrail broke, to its next step when
    that is due, to the end after the last.
    """
    assert document.ramp is not None
    documents, ramp = Documents(ctx.stores), document.ramp
    if broken:
        after = document.changed(
            "ramp",
            f"rolled back: {broken}",
            status="rolled back",
            ramp=ramp.model_copy(update={"state": "rolled back", "reason": broken}),
        )
        return await _stored(
            documents, document, after, lambda: _unassign(ctx, ramp_id(document.id))
        )
    due = due_step(ramp, now)
    if due >= len(ramp.steps):
        previous, values = await _promoted_values(ctx, document.design, ramp.variant)
        after = document.changed(
            "ramp",
            f"ramp done: {ramp.variant} is the tenant's",
            status="promoted",
            promoted=values,
            previous=previous,
            ramp=ramp.model_copy(update={"state": "done"}),
        )
        await _stored(
            documents, document, after, lambda: _set(ctx, document.design.capability, values)
        )
        await _unassign(ctx, ramp_id(document.id))
        return after
    if due == ramp.step:
        return document
    after = document.changed(
        "ramp", f"ramp at {ramp.steps[due]:g} percent", ramp=ramp.model_copy(update={"step": due})
    )
    return await _stored(documents, document, after, lambda: assign_ramp(ctx, after))


async def rollback(ctx: TenantContext, id: str, reason: str = "") -> Document:
    """Undo a promotion: the tenant's values are again what they were before it. Stops a
    ramp.
    """
    documents = Documents(ctx.stores)
    before = await documents.get(id)
    if before.status == "promoting":
        return await advance(ctx, before, reason or "by hand", datetime.now(UTC))
    if before.status != "promoted":
        raise Conflict(
            f"experiment {id!r} is {before.status}: only a promoted one can be rolled back"
        )
    after = before.changed(
        who(ctx), "rolled back" + (f": {reason}" if reason else ""), status="rolled back"
    )
    return await _stored(
        documents, before, after, lambda: _set(ctx, before.design.capability, before.previous)
    )
