"""A ramp's data: whether it does harm, and the numbers of each step."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import anyio.to_thread

from shoal import TenantContext

from .guardrails import check_for_harm
from .metric_data import MetricData, summarize
from .observations import Observed, Scope, observe
from .promotion import ramp_design, ramp_id
from .repository import Document
from .summaries import Undefined


async def harm_of_ramp(ctx: TenantContext, document: Document, now: datetime) -> str:
    """Why a ramp must be rolled back, as a sentence; empty when it need not be.

    It is a sequential test, which may be made at any time.
    """
    design = ramp_design(document)
    observed = await observe(_scope(ctx, document), now)
    planned = document.plan.per_arm if document.plan else 1000
    days = list(observed.outcomes.values())
    for guardrail in design.guardrails:
        counted = observed.people or observed.exposed
        data = summarize(design, guardrail, counted, days, (), _microseconds(now))
        for arm, row in check_for_harm(design, guardrail, data, planned).items():
            if row["harm_shown"]:
                return (
                    f"{arm} harms guardrail {guardrail.name} beyond its margin, "
                    "as the sequential test shows"
                )
    return ""


async def ramp_steps(ctx: TenantContext, document: Document, now: datetime) -> list[dict[str, Any]]:
    """Each step's units, and their values of the primary metric and the guardrails.

    A unit belongs to the step in which it was first exposed. These are no tests: a ramp
    is judged by its guardrails, over all steps.
    """
    observed = await observe(_scope(ctx, document), now)
    return await anyio.to_thread.run_sync(_count_steps, document, observed, now)


def _scope(ctx: TenantContext, document: Document) -> Scope:
    assert document.ramp is not None
    start = document.ramp.started_at
    return Scope(ctx.stores, ctx.tenant, ramp_id(document.id), ramp_design(document), start, None)


def _count_steps(document: Document, observed: Observed, now: datetime) -> list[dict[str, Any]]:
    ramp, design = document.ramp, ramp_design(document)
    assert ramp is not None
    starts = sorted(ramp.reached.items())
    ends = [at for _, at in starts[1:]] + [None]
    days, steps = list(observed.outcomes.values()), []
    for (index, start), end in zip(starts, ends, strict=True):
        time = observed.exposed.time
        within = time >= _microseconds(start)
        if end is not None:
            within &= time < _microseconds(end)
        exposed = counted = observed.exposed.where(within)
        if observed.people is not None and observed.people.cluster is not None:
            counted = observed.people.where(within[observed.people.cluster])
        data = {
            m.name: summarize(design, m, counted, days, (), _microseconds(now))
            for m in (design.primary, *design.guardrails)
        }
        steps.append(
            {
                "percent": ramp.steps[index],
                "since": start.isoformat(),
                "units": dict(zip(design.arms, exposed.counts(len(design.arms)), strict=True)),
                "values": {
                    name: {arm: _value(found, arm) for arm in design.arms}
                    for name, found in data.items()
                },
            }
        )
    return steps


def _value(data: MetricData, arm: str) -> float | None:
    """An arm's value, if it has one."""
    summary = data.arms.get(arm)
    try:
        return None if summary is None else summary.estimate().value
    except Undefined:
        return None


def _microseconds(time: datetime) -> int:
    """Since 1970."""
    return int(time.timestamp() * 1e6)
