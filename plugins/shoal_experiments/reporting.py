"""What of an experiment's data may be shown now: health always, the rest when the
registered plan allows it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import anyio.to_thread

from shoal import Conflict, TenantContext

from . import aggregation as agg
from . import always_valid, analysis, lifecycle, verdict
from .design import SERVICE, Design
from .mismatch import THRESHOLD, sample_ratio_p_value
from .observations import Observed, Runner, Scope, observe, one_by_one
from .repository import Document, Documents, TakenLook

DECIDED = ("ship", "do not ship")


async def report(
    ctx: TenantContext, document: Document, run: Runner = one_by_one, now: datetime | None = None
) -> dict[str, Any]:
    """Health and, when allowed, metrics and the verdict, of an experiment that has
    started.
    """
    now = now or datetime.now(UTC)
    observed = await observe(Scope.of(document, ctx.stores, ctx.tenant), now, run)
    while True:
        shown = await anyio.to_thread.run_sync(assess, document, observed, now)
        look = shown.pop("_look", None)
        if look is None:
            return shown
        after = document.model_copy(update={"looks": [*document.looks, look]})
        try:
            await Documents(ctx.stores).put(after, document)
            return shown
        except Conflict:  # another reader has taken this look: theirs is the one that counts
            document = await Documents(ctx.stores).get(document.id)


def assess(document: Document, observed: Observed, now: datetime) -> dict[str, Any]:
    """The report as a pure function of the document and its data. A group-sequential
    look that has become due is under `_look`.
    """
    design, plan = document.design, document.plan
    assert plan is not None and document.started_at is not None
    until = min(now, document.stopped_at or now)
    cut = int(now.timestamp() * 1e6)
    days, past = list(observed.outcomes.values()), list(observed.past.values())
    data = {
        m.name: agg.summarize(design, m, observed.who, days, past, cut) for m in design.metrics()
    }
    counts = dict(zip(design.arms, observed.who.counts(len(design.arms)), strict=True))
    ratio = sample_ratio_p_value(counts, design.shares())
    elapsed = (until - document.started_at) / timedelta(days=1)
    smallest = min(data[design.primary.name].counts.values(), default=0)
    silent = [m.name for m in design.metrics() if not _logged(m, days)]
    health: dict[str, Any] = {
        "units": counts,
        "sample_ratio": {"p_value": ratio, "mismatch": ratio < THRESHOLD},
        "crossovers": {
            "units": observed.who.crossed,
            "note": "seen in more than one variant, and left out of everything"
            if observed.who.crossed
            else "none",
        },
        "days": {"elapsed": round(elapsed, 4), "planned": plan.duration_days},
        "units_per_arm": {"smallest": smallest, "planned": plan.per_arm},
        "guardrails": {
            g.name: analysis.harm_now(design, g, data[g.name], plan.per_arm)
            for g in design.guardrails
        },
        "service": agg.service_levels(design, days) if design.capability else {},
        "no_events": silent,
    }
    missing = _missing(design, plan.per_arm, plan.duration_days, smallest, elapsed)
    answer: dict[str, Any] = {
        "experiment": document.id,
        "status": document.status,
        "analysis": design.analysis,
        "design_hash": document.hash,
        "as_of": now.astimezone(UTC).isoformat(),
        "health": health,
        "complete": not missing,
        "metrics": None,
        "timeline": None,
    }
    if ratio < THRESHOLD:
        answer["verdict"] = analysis.as_json(
            verdict.decide(
                metric=design.primary.name,
                better=design.primary.better,
                confidence=1 - design.alpha,
                sample_ratio=ratio,
                threshold=THRESHOLD,
                findings=[],
                guardrails=[],
            )
        )
        return answer
    if design.analysis == "group_sequential":
        return _group_sequential(document, answer, data, counts, smallest, now)
    if missing and design.analysis == "fixed":
        answer["verdict"] = analysis.as_json(verdict.running(missing))
        return answer
    if design.analysis == "always_valid" and smallest < always_valid.MINIMUM:
        answer["verdict"] = analysis.as_json(
            verdict.Verdict(
                "inconclusive",
                None,
                [
                    f"{smallest} units in the smallest arm; intervals are shown from {always_valid.MINIMUM} on."
                ],
            )
        )
        return answer
    answer |= analysis.results(design, data, counts, planned=plan.per_arm)
    answer["timeline"] = timeline(document, observed, cut)
    _more_reasons(answer, silent, observed.who.crossed, sum(counts.values()))
    if design.analysis == "fixed":
        _registered_once(document, answer, smallest, now)
    return answer


def _logged(metric: Any, days: list[Any]) -> bool:
    name = metric.event if metric.event.startswith(SERVICE) else metric.name
    return any(name in day["component"].unique().to_pylist() for day in days)


def _missing(
    design: Design, per_arm: int, duration: float, smallest: int, elapsed: float
) -> dict[str, str]:
    missing = {}
    if smallest < per_arm:
        missing["units"] = f"{smallest:,} of {per_arm:,} registered units in the smallest arm."
    if elapsed < duration:
        missing["days"] = f"Day {elapsed:.1f} of {duration:g}."
    return missing


def _more_reasons(answer: dict[str, Any], silent: list[str], crossed: int, units: int) -> None:
    reasons = answer["verdict"]["reasons"]
    if silent:
        reasons.append(f"Nobody has logged {', '.join(silent)} since the start.")
    if crossed > 0.01 * (units + crossed):
        reasons.append(
            f"{crossed:,} units were seen in more than one variant and are left out: more than 1 %, so look for the cause."
        )


def _registered_once(
    document: Document, answer: dict[str, Any], smallest: int, now: datetime
) -> None:
    """A fixed test is registered for one look. The first is kept, and a later one on
    more data says what the first one said.
    """
    assert document.plan is not None
    verdict, decision = answer["verdict"], answer["verdict"]["decision"]
    if not document.looks:
        kept = {"smallest": smallest, "verdict": {**verdict, "reasons": [*verdict["reasons"]]}}
        answer["_look"] = TakenLook(
            time=1, information=smallest / document.plan.per_arm, bound=0, at=now, results=kept
        )
        return
    first = document.looks[0]
    if (smallest, decision) != (first.results["smallest"], first.results["verdict"]["decision"]):
        answer["first_look"] = {"at": first.at.isoformat(), **first.results}
        verdict["reasons"].append(
            f"First looked at on {first.at:%Y-%m-%d %H:%M} UTC with {first.results['smallest']:,} units in the smallest arm, where the verdict was "
            f"{first.results['verdict']['decision']}: that is the look that was registered. Each later one raises the chance of a false positive."
        )


def _group_sequential(
    document: Document,
    answer: dict[str, Any],
    data: dict[str, agg.MetricData],
    counts: dict[str, int],
    smallest: int,
    now: datetime,
) -> dict[str, Any]:
    """The latest look's results, as they were then; a new look when one has become due.
    A look that decides is the last: the power planned for is that of stopping there.
    """
    design, plan = document.design, document.plan
    assert plan is not None
    information = smallest / plan.per_arm
    taken = [look.information for look in document.looks]
    over = bool(taken) and (
        taken[-1] >= 1 or document.looks[-1].results["verdict"]["decision"] in DECIDED
    )
    due = None if over else analysis.next_look(design, information, taken)
    if due is not None:
        found = analysis.results(design, data, counts, planned=plan.per_arm, look=due)
        answer["_look"] = TakenLook(
            time=due.time, information=information, bound=due.bound, at=now, results=found
        )
    looks = [*document.looks, *([answer["_look"]] if due is not None else [])]
    answer["looks"] = [
        {"time": k.time, "information": k.information, "bound": k.bound, "at": k.at.isoformat()}
        for k in looks
    ]
    if not looks:
        answer["verdict"] = analysis.as_json(
            verdict.Verdict(
                "inconclusive",
                None,
                [
                    f"{smallest:,} of {plan.per_arm:,} registered units in the smallest arm; the first look is at {100 * design.looks[0]:g} %."
                ],
            )
        )
        return answer
    answer |= looks[-1].results
    answer["complete"] = looks[-1].time >= 1 or answer["verdict"]["decision"] in DECIDED
    return answer


def timeline(document: Document, observed: Observed, cut: int) -> list[dict[str, Any]]:
    """The primary metric's effect as it accumulated, by day, with the intervals of the
    design's analysis. Shown only where the result itself may be; the earlier intervals
    of a fixed test are drawn for the eye and decide nothing.
    """
    design, plan = document.design, document.plan
    assert plan is not None
    points: list[dict[str, Any]] = []
    days: list[date] = sorted({*observed.exposures, *observed.outcomes})
    for index, day in enumerate(days):
        if index < len(days) - 60:
            continue
        until = days[: index + 1]
        who = agg.exposed(
            [observed.exposures[d] for d in until if d in observed.exposures], design.arms
        )
        tables = [observed.outcomes[d] for d in until if d in observed.outcomes]
        end = min(
            cut, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1e6) + agg.DAY
        )
        if not len(who.units):
            continue
        data = agg.summarize(design, design.primary, who, tables, list(observed.past.values()), end)
        arms, _ = analysis.adjusted(data)
        if design.analysis == "always_valid" and min(data.counts.values()) < always_valid.MINIMUM:
            continue
        rows = analysis.compare_all(
            design, design.primary, arms, data, design.correction, planned=plan.per_arm, look=None
        )
        points.append(
            {
                "day": day.isoformat(),
                "units": data.counts,
                "comparisons": {
                    arm: {"effect": row["effect"], "interval": row["interval"]}
                    for arm, row in rows.items()
                },
            }
        )
    return points


async def broken_guardrail(ctx: TenantContext, document: Document, now: datetime) -> str:
    """Why a ramp must be rolled back, or nothing. The sequential test may be asked at
    any time.
    """
    assert document.ramp is not None
    design = lifecycle.ramp_design(document)
    scope = Scope(
        ctx.stores,
        ctx.tenant,
        lifecycle.ramp_id(document.id),
        design,
        document.ramp.started_at,
        None,
    )
    observed = await observe(scope, now)
    planned = document.plan.per_arm if document.plan else 1000
    for guardrail in design.guardrails:
        data = agg.summarize(
            design,
            guardrail,
            observed.who,
            list(observed.outcomes.values()),
            (),
            int(now.timestamp() * 1e6),
        )
        for arm, row in analysis.harm_now(design, guardrail, data, planned).items():
            if row["harm_shown"]:
                return f"guardrail {guardrail.name} is broken by {arm}: harm beyond the margin is shown by the sequential test"
    return ""
