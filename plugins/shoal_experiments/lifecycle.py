"""An experiment from draft to running to stopped. Promotion is in `promotion`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shoal import Conflict, ExperimentRecord, Invalid, NotFound, TenantContext

from . import observations, promotion
from .collisions import assign_without_collision, check_collisions, running_besides
from .control_values import record_changes, values_in_effect
from .design import Design
from .exposures import logged_key
from .history import lookback_days
from .planning import make_plan
from .repository import Document, Repository
from .transitions import actor, apply_transition, platform_operations, stop_assigning

BUCKETS = 10_000
"""Buckets of a layer that units are hashed into."""


async def draft(ctx: TenantContext, id: str, design: Design) -> Document:
    """Store a design as a new draft, or in place of an existing one.

    Raises:
        Conflict: The experiment has already started.
        Invalid: The overrides or the plan are not valid.
    """
    repository = Repository(ctx.stores)
    before = await repository.find(id)
    if before is not None and before.status != "draft":
        raise Conflict(
            f"experiment {id!r} is {before.status}: its design was frozen when it started"
        )
    await check_overrides(ctx, design)
    plan = await make_plan(ctx, id, design)
    document = Document(id=id, design=design) if before is None else before
    return await repository.put(
        document.with_change(actor(ctx), "drafted", design=design, plan=plan), before
    )


async def check_overrides(ctx: TenantContext, design: Design) -> None:
    """Check that the variants' overrides are valid parameters of the capability.

    Raises:
        Invalid: The capability or a parameter does not exist, or a value is out of
            bounds.
    """
    if design.capability is None:
        return
    faults: list[Mapping[str, Any]] = []
    for index, variant in enumerate(design.variants):
        where = f"variants.{index}.parameters"
        try:
            await platform_operations(ctx).validate_parameters(
                capability=design.capability, body=variant.parameters
            )
        except NotFound as error:
            raise Invalid(
                f"capability {design.capability!r} has no parameters to vary: {error.detail}",
                errors=[{"location": "capability", "message": error.detail}],
            ) from None
        except Invalid as error:
            faults += [
                {**fault, "location": f"{where}.{fault.get('location', '')}".rstrip(".")}
                for fault in error.errors
            ] or [{"location": where, "message": error.detail}]
    if faults:
        raise Invalid(
            f"the overrides are not valid parameters of {design.capability}", errors=faults
        )


async def start(ctx: TenantContext, id: str) -> Document:
    """Freeze the design, store its hash, and let the router assign units.

    Raises:
        Conflict: It is not a draft, or another running experiment is in its way.
        Invalid: The sample size is unknown, or the overrides are not valid.
    """
    repository = Repository(ctx.stores)
    before = await repository.get(id)
    if before.status != "draft":
        raise Conflict(f"experiment {id!r} is {before.status}: only a draft can be started")
    design = before.design
    await check_overrides(ctx, design)
    plan = await make_plan(ctx, id, design)
    if plan is None:
        raise Invalid(
            f"the sample size is unknown: no {design.primary.name!r} (event type "
            f"{design.primary.event!r}) was logged in the last {lookback_days(design)} days. "
            "Set baseline (and variance, for anything but a proportion) or minimum_sample_size",
            errors=[{"location": "baseline", "message": "required, because there is no history"}],
        )
    running = await running_besides(ctx, id)
    layer_range = _free_layer_range(design, running)
    now = datetime.now(UTC)
    record = design.record(id, status="running", started_at=now, layer_range=layer_range)
    check_collisions(record, running)
    after = before.with_change(
        actor(ctx),
        f"started: design frozen, sha256 {design.hash()}",
        status="running",
        hash=design.hash(),
        plan=plan,
        layer_range=layer_range,
        started_at=now,
        **await values_in_effect(ctx, design),
    )
    return await apply_transition(
        repository, before, after, lambda: assign_without_collision(ctx, record)
    )


def _free_layer_range(design: Design, running: list[ExperimentRecord]) -> tuple[int, int] | None:
    """The first free range of the design's layer that is wide enough, in buckets."""
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
        f"layer {design.layer.name!r} has no free range of {design.layer.percent:g} percent: "
        f"{used:g} percent are taken by "
        f"{', '.join(r.id for r in running if r.layer == design.layer.name)}"
    )


async def stop(ctx: TenantContext, id: str, reason: str = "") -> Document:
    """Stop assigning units; the analysis covers what was observed until now.

    Raises:
        Conflict: It is not running.
    """
    repository = Repository(ctx.stores)
    before = await repository.get(id)
    if before.status != "running":
        raise Conflict(f"experiment {id!r} is {before.status}: only a running one can be stopped")
    before = await record_changes(ctx, before)
    after = before.with_change(
        actor(ctx),
        "stopped" + (f": {reason}" if reason else ""),
        status="stopped",
        stopped_at=datetime.now(UTC),
    )
    return await apply_transition(repository, before, after, lambda: stop_assigning(ctx, id))


async def delete(ctx: TenantContext, id: str) -> None:
    """Delete an experiment and what was computed from its data.

    Raises:
        Conflict: It is running, or being promoted.
    """
    repository = Repository(ctx.stores)
    document = await repository.get(id)
    if document.status in ("running", "promoting"):
        raise Conflict(f"experiment {id!r} is {document.status}: stop it first")
    if document.started_at is not None:
        await observations.delete_daily_tables(
            observations.Scope.of(document, ctx.stores, ctx.tenant)
        )
    await repository.delete(document)
    for name in (id, promotion.ramp_id(id)):
        await ctx.stores.online.delete(logged_key(name))
