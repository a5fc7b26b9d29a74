"""What of an experiment's data may be shown now.

Health is always shown; effects and the verdict when the registered plan allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import anyio.to_thread

from shoal import Conflict, TenantContext

from . import aggregation as agg
from . import always_valid, analysis
from .attribute_values import attribute_values
from .breakdowns import break_down
from .control_values import record_changes
from .correction import interval_alpha
from .design import Design
from .guardrails import check_for_harm
from .looks import Look, next_look
from .metric_data import MetricData, service_levels, summarize
from .mismatch import THRESHOLD, sample_ratio_p_value
from .observations import Observed, Runner, Scope, observe, run_sequentially
from .ramps import ramp_steps
from .repository import Document, Plan, Repository, TakenLook
from .verdict import Verdict, decide, pending_verdict

FINAL_DECISIONS = ("ship", "do not ship")
"""Decisions after which a group-sequential test takes no further look."""

TIMELINE_DAYS = 60
"""Days of results over time that are shown at most: the latest."""

INVALID_CROSSOVER_SHARE = 0.1
"""The share from which nothing can be concluded.

Who crosses over may depend on the outcome, so the others are no longer comparable.
"""

MAX_CROSSOVER_SHARE = 0.01
"""Share of units in two variants above which the report warns."""


class Assessment(NamedTuple):
    """A report, and the look to store if it is a new one."""

    report: dict[str, Any]
    new_look: TakenLook | None = None


async def report(
    ctx: TenantContext,
    document: Document,
    run: Runner = run_sequentially,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Health and, when allowed, metrics and the verdict of an experiment.

    Args:
        ctx: The experiment's tenant.
        document: An experiment that has started.
        run: How daily tables are computed.
        now: The time of the report; the current time when None.
    """
    now = now or datetime.now(UTC)
    document = await record_changes(ctx, document)
    observed = await observe(Scope.of(document, ctx.stores, ctx.tenant), now, run)
    ramp = await ramp_steps(ctx, document, now) if document.ramp else None
    repository = Repository(ctx.stores)
    while True:
        found, look = await anyio.to_thread.run_sync(assess, document, observed, now)
        if ramp is not None:
            found["ramp"] = ramp
        if look is None:
            return found
        after = document.model_copy(update={"looks": [*document.looks, look]})
        try:
            await repository.put(after, document)
            return found
        except Conflict:  # another reader has taken this look: only theirs counts
            document = await repository.get(document.id)


def assess(document: Document, observed: Observed, now: datetime) -> Assessment:
    """The report as a pure function of an experiment and its data."""
    state = _State.of(document, observed, now)
    design = document.design
    mismatch = state.sample_ratio < THRESHOLD
    body: dict[str, Any] = {
        "experiment": document.id,
        "status": document.status,
        "analysis": design.analysis,
        "design_hash": document.hash,
        "as_of": now.astimezone(UTC).isoformat(),
        "health": state.health(),
        "complete": not state.missing(),
        "metrics": None,
        "breakdowns": None,
        "timeline": None,
    }
    if mismatch:
        return Assessment(body | {"verdict": _mismatch_verdict(state)})
    if design.analysis == "group_sequential":
        return _assess_group_sequential(state, body)
    if design.analysis == "fixed" and state.missing():
        missing = [*state.missing().values(), *state.faults().values(), *state.causes()]
        return Assessment(body | {"verdict": pending_verdict(missing).to_dict()})
    if waiting := _needed_before_intervals(design, state.data[design.primary.name]):
        reason = f"{waiting}: intervals are shown from there on."
        return Assessment(body | {"verdict": Verdict("inconclusive", None, [reason]).to_dict()})
    body |= state.results()
    body["timeline"] = timeline(document, observed, now)
    body["verdict"]["reasons"] += state.warnings()
    return _with_first_look(state, body) if design.analysis == "fixed" else Assessment(body)


@dataclass(frozen=True, slots=True)
class _State:
    """An experiment with its data, summarized as of now."""

    document: Document
    plan: Plan
    observed: Observed
    now: datetime
    data: dict[str, MetricData]
    counts: dict[str, int]
    """Exposed units of each arm."""
    sample_ratio: float
    elapsed: float
    """Days since the start."""
    smallest: int
    """Units in the smallest arm that the primary metric counts."""
    silent: list[str]
    """Metrics without any event."""

    @classmethod
    def of(cls, document: Document, observed: Observed, now: datetime) -> _State:
        design, plan = document.design, document.plan
        assert plan is not None and document.started_at is not None
        days, past = list(observed.outcomes.values()), list(observed.past.values())
        counted, end = observed.people or observed.exposed, int(now.timestamp() * 1e6)
        data = {m.name: summarize(design, m, counted, days, past, end) for m in design.metrics()}
        counts = dict(zip(design.arms, observed.exposed.counts(len(design.arms)), strict=True))
        until = min(now, document.stopped_at or now)
        return cls(
            document=document,
            plan=plan,
            observed=observed,
            now=now,
            data=data,
            counts=counts,
            sample_ratio=sample_ratio_p_value(counts, design.shares()),
            elapsed=(until - document.started_at) / timedelta(days=1),
            smallest=min(data[design.primary.name].counts.values(), default=0),
            silent=[name for name, found in data.items() if not found.has_events],
        )

    def health(self) -> dict[str, Any]:
        design, plan = self.document.design, self.plan
        days = list(self.observed.outcomes.values())
        crossovers, unknown = self.observed.exposed.crossovers, self.observed.exposed.unknown
        return {
            "units": self.counts,
            "sample_ratio": {
                "p_value": self.sample_ratio,
                "mismatch": self.sample_ratio < THRESHOLD,
            },
            "crossovers": {
                "units": crossovers,
                "note": "seen in more than one variant, and excluded" if crossovers else "none",
            },
            "unknown_variants": {
                "units": unknown,
                "note": "seen in a variant that the design does not have, and excluded"
                if unknown
                else "none",
            },
            "days": {"elapsed": round(self.elapsed, 4), "planned": plan.duration_days},
            "units_per_arm": {"smallest": self.smallest, "planned": plan.per_arm},
            "guardrails": {
                g.name: check_for_harm(design, g, self.data[g.name], plan.per_arm)
                for g in design.guardrails
            },
            "service": service_levels(design, days) if design.capability else {},
            "no_events": self.silent,
            "unreadable": self.unreadable(),
            "unusable_exposures": self.observed.exposed.unusable,
        }

    def unreadable(self) -> dict[str, int]:
        """How many events of each metric have no number, where there are any."""
        return {name: found.unreadable for name, found in self.data.items() if found.unreadable}

    def missing(self) -> dict[str, str]:
        """What the registered plan still needs, as sentences."""
        missing = {}
        if self.smallest < self.plan.per_arm:
            missing["units"] = (
                f"{self.smallest:,} of {self.plan.per_arm:,} registered units in the smallest arm."
            )
        if self.elapsed < self.plan.duration_days:
            missing["days"] = f"Day {self.elapsed:.1f} of {self.plan.duration_days:g}."
        return missing

    def faults(self) -> dict[str, str]:
        """Why nothing can be concluded although all else is well, as sentences."""
        faults = {}
        if names := self.document.changed_control:
            faults["control"] = (
                f"The tenant's own value of {', '.join(names)} changed while the experiment ran, "
                "so its control is not what was registered (see the history)."
            )
        if self.document.changed_assignment:
            faults["assignment"] = (
                "The router's assignment was changed or deleted at /platform/experiments while "
                "the experiment ran, so units did not get what the frozen design says."
            )
        crossovers = self.observed.exposed.crossovers
        if crossovers > INVALID_CROSSOVER_SHARE * (sum(self.counts.values()) + crossovers):
            faults["crossovers"] = (
                f"{crossovers:,} units were seen in more than one variant, more than "
                f"{100 * INVALID_CROSSOVER_SHARE:g} %: those left are no longer comparable."
            )
        return faults

    def causes(self) -> list[str]:
        """What keeps units from being counted, as sentences."""
        causes = [
            f"The values of {found.overflowed:,} units of {name} are too large to add up."
            for name, found in self.data.items()
            if found.overflowed
        ]
        if unusable := self.observed.exposed.unusable:
            causes.append(
                f"{unusable:,} exposures are left out: `unit` and `variant` must be texts (a "
                f"number is none), and `unit_type`, if given, {self.document.design.unit!r}."
            )
        return causes

    def results(self, look: Look | None = None) -> dict[str, Any]:
        """Metrics and verdict, which a changed control makes invalid."""
        design = self.document.design
        found = analysis.results(
            design, self.data, self.counts, planned=self.plan.per_arm, look=look
        )
        if design.breakdowns:
            found["breakdowns"] = break_down(
                design, self.groups(), planned=self.plan.per_arm, look=look
            )
        if reasons := self.faults().values():
            verdict = Verdict("invalid", None, [*reasons, *found["verdict"]["reasons"]])
            found["verdict"] = verdict.to_dict()
        return found

    def groups(self) -> dict[str, dict[str, MetricData]]:
        """Data of the primary metric by attribute and value."""
        design, observed, end = self.document.design, self.observed, _microseconds(self.now)
        tables = list(observed.attributes.values())
        days, past = list(observed.outcomes.values()), list(observed.past.values())
        groups: dict[str, dict[str, MetricData]] = {}
        for attribute in design.breakdowns:
            groups[attribute.name] = {}
            values = attribute_values(observed.exposed, tables, attribute.name)
            for value, chosen in values.items():
                counted = observed.exposed.where(chosen)
                if observed.people is not None and observed.people.cluster is not None:
                    counted = observed.people.where(chosen[observed.people.cluster])
                groups[attribute.name][value] = summarize(
                    design, design.primary, counted, days, past, end
                )
        return groups

    def warnings(self) -> list[str]:
        warnings = []
        if self.silent:
            warnings.append(f"No {', '.join(self.silent)} was logged since the start.")
        for name, events in self.unreadable().items():
            warnings.append(
                f"{events:,} events of {name} have no number in the field that the metric reads, "
                "and are left out: correct the metric's `value`, or what is logged."
            )
        crossovers = self.observed.exposed.crossovers
        if crossovers > MAX_CROSSOVER_SHARE * (sum(self.counts.values()) + crossovers):
            warnings.append(
                f"{crossovers:,} units (more than {100 * MAX_CROSSOVER_SHARE:g} %) were seen in "
                "more than one variant and are excluded: look for the cause."
            )
        warnings += self.causes()
        if unknown := self.observed.exposed.unknown:
            warnings.append(
                f"{unknown:,} units were exposed to a variant that the design does not have, and "
                f"are excluded: log one of {', '.join(self.document.design.arms)}."
            )
        return warnings


def _microseconds(time: datetime) -> int:
    """Since 1970."""
    return int(time.timestamp() * 1e6)


def _needed_before_intervals(design: Design, primary: MetricData) -> str:
    """What an always-valid design's primary metric waits for; empty when nothing."""
    if design.analysis != "always_valid":
        return ""
    units = list(primary.counts.values())
    return always_valid.what_is_missing(list(primary.arms.values()), units)


def _mismatch_verdict(state: _State) -> dict[str, Any]:
    design = state.document.design
    return decide(
        metric=design.primary.name,
        better=design.primary.better,
        confidence=1 - design.alpha,
        sample_ratio=state.sample_ratio,
        threshold=THRESHOLD,
        findings=[],
        guardrails=[],
    ).to_dict()


def _with_first_look(state: _State, body: dict[str, Any]) -> Assessment:
    """Store a fixed test's first look; its verdict stays, whatever later looks show."""
    verdict, looks = body["verdict"], state.document.looks
    if state.document.design.primary.name in state.silent:
        return Assessment(body)  # nothing was seen, so nobody has looked
    if not looks:
        results = {
            "smallest": state.smallest,
            "verdict": {**verdict, "reasons": [*verdict["reasons"]]},
        }
        information = state.smallest / state.plan.per_arm
        look = TakenLook(time=1, information=information, bound=0, at=state.now, results=results)
        return Assessment(body, look)
    first = looks[0].results
    decision = first["verdict"]["decision"]
    if (state.smallest, verdict["decision"]) != (first["smallest"], decision):
        body["first_look"] = {"at": looks[0].at.isoformat(), **first}
        now = verdict["decision"]
        reason = (
            f"The registered look was the first, on {looks[0].at:%Y-%m-%d %H:%M} UTC with "
            f"{first['smallest']:,} units in the smallest arm; its verdict, {decision}, stands. "
            f"The data of now would say {now}, but each later look raises the chance of a false "
            "positive: promoting on it needs an override."
        )
        body["verdict"] = {**first["verdict"], "reasons": [reason, *first["verdict"]["reasons"]]}
    return Assessment(body)


def _assess_group_sequential(state: _State, body: dict[str, Any]) -> Assessment:
    """The results of the latest look, as they were then, or of a new look that is due.

    A look that decides is the last: the planned power is that of stopping there.
    """
    document, design, plan = state.document, state.document.design, state.plan
    information = state.smallest / plan.per_arm
    looks, new_look = document.looks, None
    taken = [look.information for look in looks]
    is_over = bool(looks) and (
        taken[-1] >= 1 or looks[-1].results["verdict"]["decision"] in FINAL_DECISIONS
    )
    due = None if is_over else next_look(design, information, taken)
    if due is not None:
        results = state.results(due)
        new_look = TakenLook(
            time=due.time, information=information, bound=due.bound, at=state.now, results=results
        )
        looks = [*looks, new_look]
    body["looks"] = [
        {"time": k.time, "information": k.information, "bound": k.bound, "at": k.at.isoformat()}
        for k in looks
    ]
    if not looks:
        reason = (
            f"{state.smallest:,} of {plan.per_arm:,} registered units in the smallest arm; "
            f"the first look is at {100 * design.looks[0]:g} %."
        )
        return Assessment(body | {"verdict": Verdict("inconclusive", None, [reason]).to_dict()})
    body |= looks[-1].results
    body["complete"] = looks[-1].time >= 1 or body["verdict"]["decision"] in FINAL_DECISIONS
    return Assessment(body, new_look)


def timeline(document: Document, observed: Observed, now: datetime) -> list[dict[str, Any]]:
    """The primary metric's effect by day, with the intervals of the design's analysis.

    For experiments whose result may be shown. The earlier intervals of a fixed test are
    only for orientation: they decide nothing.

    Returns:
        For each day: `day`, `units` by arm, and `comparisons` with `effect` and
        `interval` by treatment.
    """
    design = document.design
    days = sorted({*observed.exposures, *observed.outcomes})
    points = []
    for index in range(max(0, len(days) - TIMELINE_DAYS), len(days)):
        until = days[: index + 1]
        data = _data_until(document, observed, until, now)
        if data is None:
            continue
        if _needed_before_intervals(design, data):
            continue
        points.append(
            {
                "day": until[-1].isoformat(),
                "units": data.counts,
                "comparisons": _effects(document, data),
            }
        )
    return points


def _data_until(
    document: Document, observed: Observed, days: Sequence[date], now: datetime
) -> MetricData | None:
    """The primary metric's data as of these days; None without any unit."""
    design = document.design
    exposed = agg.exposed_units(
        [observed.exposures[day] for day in days if day in observed.exposures], design.arms
    )
    if not len(exposed.units):
        return None
    midnight = datetime.combine(days[-1], datetime.min.time(), UTC)
    return summarize(
        design,
        design.primary,
        observed.people_until(exposed, days[-1]),
        [observed.outcomes[day] for day in days if day in observed.outcomes],
        list(observed.past.values()),
        min(int(now.timestamp() * 1e6), int(midnight.timestamp() * 1e6) + agg.DAY),
    )


def _effects(document: Document, data: MetricData) -> dict[str, Mapping[str, Any]]:
    design, plan = document.design, document.plan
    assert plan is not None
    arms, _ = data.adjusted_arms()
    alpha = interval_alpha(design.alpha, len(design.treatments), design.correction)
    rows = analysis.compare_treatments(design, arms, data, alpha, planned=plan.per_arm, look=None)
    return {
        arm: {"effect": row["effect"], "interval": row["interval"]} for arm, row in rows.items()
    }
