"""The plan of an experiment: units per arm and duration, computed before it starts."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import anyio.to_thread

from shoal import Invalid, TenantContext

from .design import MAX_DAYS, Design
from .history import DEFAULT_DAYS, History, read_history
from .repository import Plan
from .required_units import required_units
from .sample_size import ImpossibleSample

MAX_PER_ARM = 10**12


async def make_plan(ctx: TenantContext, id: str, design: Design) -> Plan | None:
    """Units per arm and duration, from the design or from the tenant's history.

    Returns:
        The plan, or None when neither the design nor the history says enough.

    Raises:
        Invalid: No sample size follows from the design, or it would take too long.
    """
    notes = []
    baseline, variance, per_day = design.baseline, design.variance, design.units_per_day
    history = await _needed_history(ctx, id, design)
    if history is not None:
        notes.append(f"history: {history.units:,} units in the last {history.days} days")
        baseline = history.baseline if baseline is None else baseline
        variance = history.variance if variance is None else variance
        per_day = history.units_per_day if per_day is None else per_day
    per_arm = await anyio.to_thread.run_sync(_units_per_arm, design, baseline, variance)
    if per_arm is None:
        return None
    duration, note = _duration(design, per_arm, per_day)
    return Plan(
        per_arm=per_arm,
        total=math.ceil(per_arm / min(design.shares().values())),
        duration_days=duration,
        baseline=baseline,
        variance=variance,
        units_per_day=per_day,
        notes=[*notes, note] if note else notes,
    )


async def _needed_history(ctx: TenantContext, id: str, design: Design) -> History | None:
    lacks_variance = design.variance is None and not design.primary.binary
    lacks_sample = (design.baseline is None or lacks_variance) and (
        design.minimum_sample_size is None
    )
    lacks_duration = design.duration_days is None and design.units_per_day is None
    if not (lacks_sample or lacks_duration):
        return None
    return await read_history(ctx.stores, ctx.tenant, design, id, datetime.now(UTC))


def _units_per_arm(design: Design, baseline: float | None, variance: float | None) -> int | None:
    if design.effect == "relative" and baseline is not None and baseline <= 0:
        fault = {"location": "effect", "message": f"the primary metric's baseline is {baseline:g}"}
        raise Invalid("a relative effect needs a baseline above zero", errors=[fault])
    if baseline is not None and design.primary.binary:
        _check_rates(design, baseline)
    try:
        per_arm = design.minimum_sample_size or required_units(design, baseline, variance)
    except ValueError as error:
        raise Invalid(
            f"no sample size follows from the design: {error}",
            errors=[{"location": _location(error), "message": str(error)}],
        ) from None
    if per_arm is not None and per_arm > MAX_PER_ARM:
        raise Invalid(
            "minimum_effect is too small: no sample could detect it",
            errors=[{"location": "minimum_effect", "message": f"{per_arm} units per arm"}],
        )
    return per_arm


def _check_rates(design: Design, baseline: float) -> None:
    """Refuse a baseline that is no share of the units, or an effect beyond 0 or 1."""
    effect = design.minimum_effect or 0
    reached = baseline + effect * (baseline if design.effect == "relative" else 1)
    for field, rate in (("baseline", baseline), ("minimum_effect", reached)):
        if not -1e-12 <= rate <= 1 + 1e-12:
            raise Invalid.at(
                field,
                f"the primary metric is a share of the units, from 0 to 1 (5 percent are 0.05), "
                f"but this makes it {rate:g}",
            )


def _location(error: ValueError) -> str:
    """The design's field that makes the sample impossible."""
    field = error.field if isinstance(error, ImpossibleSample) else "minimum_effect"
    return "variants" if field == "ratio" else field


def _duration(design: Design, per_arm: int, per_day: float | None) -> tuple[float, str]:
    """The duration in days, and a note on its origin if that is not the design."""
    if design.duration_days is not None:
        return design.duration_days, ""
    days = None if per_day is None else design.whole_weeks(per_arm, per_day)
    if days is None:
        return DEFAULT_DAYS, (
            "duration: two weeks, because neither the design nor the history says "
            "how many units there are per day"
        )
    if days > MAX_DAYS:
        fault = {
            "location": "minimum_effect",
            "message": f"{per_arm:,} units per arm at {per_day:g} units per day",
        }
        raise Invalid(
            f"the experiment would take {days:,.0f} days, and at most {MAX_DAYS} are allowed: "
            "choose a larger minimum_effect, or set duration_days",
            errors=[fault],
        )
    return days, "duration: whole weeks until the smallest arm is full"
