"""Rules: which points raise an alert, with which priority, and who is notified."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoal import Identifier, Number

from .counts import Comparison, Tally
from .maintenance import Match
from .points import MAX_LABELS, MAX_NAME_LENGTH, Labels

Priority = Literal["P1", "P2", "P3"]


MAX_PAUSE = 3.0  # usual intervals, within which points are consecutive


@dataclass(frozen=True, slots=True)
class Observation:
    """One scored point.

    expected: the expected value; None while there is none.
    is_anomaly: whether the detector raised an alarm.
    is_calm: whether the series is in its usual range.
    interval: usual seconds between points of the series; None while unknown.
    seconds: what a counter's rate is of, so that `value` times it is a number of
        events; 1 for a gauge.
    others: observations of other metrics with the same labels, by metric.
    """

    metric: str
    labels: Labels
    series: str
    time: datetime
    value: float
    expected: float | None = None
    is_anomaly: bool = False
    is_calm: bool = True
    interval: float | None = None
    seconds: float = 1.0
    others: Mapping[str, "Observation"] = field(default_factory=dict)

    def is_beyond(self, condition: Comparison, limit: float) -> bool:
        """Whether the value is beyond a limit; not known is no."""
        if condition == "above":
            return self.value > limit
        if condition == "below":
            return self.value < limit
        if self.expected is None or self.expected == 0:
            return False
        change = (self.value - self.expected) / abs(self.expected)
        return -change > limit if condition == "drop" else change > limit


MetricName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]


class OtherCondition(BaseModel):
    """What another metric with the same labels must be, for a rule to fire.

    metric: its name, in which a `*` stands for what that of the rule's `match.metric`
        stands for; if that has none or several, for the name up to its last dot.
    condition, limit: as of a rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: MetricName
    condition: Literal["above", "below", "drop", "rise"]
    limit: Number

    @model_validator(mode="after")
    def _limited(self) -> Self:
        _check_limit(self.condition, self.limit)
        return self


class Rule(BaseModel):
    """Opens an alert when the condition is met `for` some minutes, and by `points`.

    All points of that time must meet it, `points` of them at least, and a longer pause
    than usual begins the time anew. The alert resolves after `recovery` consecutive
    points that do not.

    condition: `above` and `below` compare the value with `limit`; `drop` and `rise`
        compare the relative difference from the expected value; `unusual` follows the
        detector and takes no limit.
    margin: hysteresis, as a share of the limit: how far a value must be within the
        limit to count as recovered.
    group_by: labels; series of one metric with equal values of them are one alert.
        `...` stands for all labels.
    also: conditions of other metrics with the same labels; `combine` says whether
        `all` must be met, or `any`. One without a point, at this time or within three
        usual intervals before, is not met.
    volume: the metric that counts what the value is a share of (of an error rate, the
        requests). The rule then fires once errors and requests of these points prove
        that the limit is exceeded (binomial, one-sided, 0.1 %), not by chance. Without
        a point of it, the value counts alone.
    counts: for a drop or a rise: the values are numbers of events, which prove it
        likewise (Poisson).
    min_volume: events that these points must have in all: of `volume`, or as many
        as are expected.
    channels: notified of what fires, `group_wait` minutes after it, with all that fires
        meanwhile; by default at once of a P1, else after half a minute. Of further
        series no sooner than `group_interval` minutes after the last notice.
    escalation: channels notified if nobody acknowledges within `escalate_after`
        minutes of the first notice.
    no_data: when points stop for longer than usual: `alert` says so, until one comes;
        `resolve` lets go of what fires; `keep` changes nothing.
    renotify_after: minutes from the last notice to a reminder, until somebody
        acknowledges; None for none.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        serialize_by_alias=True,
        json_schema_serialization_defaults_required=True,
    )

    name: str = Field(default="", max_length=200)
    priority: Priority
    condition: Comparison
    limit: Number | None = None
    match: Match = Match()
    also: tuple[OtherCondition, ...] = Field(default=(), max_length=10)
    combine: Literal["all", "any"] = "all"
    volume: MetricName | None = None
    counts: bool = False
    min_volume: float = Field(default=0, ge=0, le=1e12)
    duration: float = Field(default=0, ge=0, le=10_080, alias="for")
    points: int = Field(default=1, ge=1, le=1000)
    recovery: int = Field(default=3, ge=1, le=1000)
    margin: float = Field(default=0.1, ge=0, lt=1)
    group_by: tuple[Annotated[str, Field(max_length=MAX_NAME_LENGTH)], ...] = Field(
        default=(), max_length=MAX_LABELS
    )
    group_wait: float | None = Field(default=None, ge=0, le=1_440)
    group_interval: float = Field(default=5, ge=0, le=1_440)
    channels: tuple[Identifier, ...] = Field(default=(), max_length=20)
    escalation: tuple[Identifier, ...] = Field(default=(), max_length=20)
    escalate_after: float = Field(default=30, gt=0, le=10_080)
    renotify_after: float | None = Field(default=None, gt=0, le=10_080)
    no_data: Literal["keep", "alert", "resolve"] = "keep"
    enabled: bool = True

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.condition == "unusual" and self.limit is not None:
            raise ValueError("an `unusual` rule follows the detector and takes no limit")
        if self.condition != "unusual" and self.limit is None:
            raise ValueError(f"a rule with the condition `{self.condition}` needs a limit")
        _check_limit(self.condition, self.limit or 0)
        return self

    @model_validator(mode="after")
    def _counted(self) -> Self:
        is_share = self.condition in ("above", "below") and 0 <= (self.limit or 0) <= 1
        if self.volume is not None and not is_share:
            raise ValueError("`volume` is of a share `above` or `below` a limit from 0 to 1")
        if self.counts and self.condition not in ("drop", "rise"):
            raise ValueError("`counts` is of a `drop` or a `rise`")
        is_counted = self.counts or self.volume is not None
        if self.min_volume and not is_counted:
            raise ValueError("`min_volume` needs `volume`, or `counts`")
        if is_counted and self.also and self.combine == "any":
            raise ValueError("a rule with `volume` or `counts` combines `all` conditions")
        return self

    def applies_to(self, metric: str, labels: Labels) -> bool:
        """Whether the rule is enabled and covers a series."""
        return self.enabled and self.match.covers(metric, labels)

    def group(self, name: str, metric: str, labels: Labels) -> str:
        """What the series that are told together have in common, as text."""
        names = labels if "..." in self.group_by else self.group_by
        return json.dumps(
            [name, metric, {key: labels[key] for key in sorted(names) if key in labels}]
        )

    @property
    def needs_expected(self) -> bool:
        """Whether a condition compares with the expected value."""
        conditions = {self.condition, *(other.condition for other in self.also)}
        return not conditions.isdisjoint(("drop", "rise"))

    def other_metrics(self, metric: str) -> list[str]:
        """The other metrics that the rule looks at beside one that it covers."""
        names = [*(other.metric for other in self.also), *([self.volume] if self.volume else [])]
        return [self._named(name, metric) for name in names]

    def _named(self, name: str, metric: str) -> str:
        """Another metric's name, see `OtherCondition`."""
        before, *others = re.split(r"[*?[]", self.match.metric)
        if len(others) == 1 and "*" in self.match.metric:
            stem = metric[len(before) : len(metric) - len(others[0])]
        else:
            stem = metric[: metric.rfind(".") + 1]
        return name.replace("*", stem)

    @property
    def first_wait(self) -> float:
        """Seconds from firing to the first notice."""
        if self.group_wait is None:
            return 0.0 if self.priority == "P1" else 30.0
        return 60 * self.group_wait

    def is_met(self, observation: Observation) -> bool:
        """Whether the point meets the conditions."""
        return self._holds(observation)

    def has_recovered(self, observation: Observation) -> bool:
        """Whether the point is within the limits by the margin."""
        return not self._holds(observation, self.margin)

    def tally(self, observation: Observation) -> Tally | None:
        """What a point counts; None where nothing is counted."""
        if self.counts:
            expected = observation.expected or 0.0
            return Tally(observation.value * observation.seconds, expected * observation.seconds)
        if self.volume is None:
            return None
        volume = observation.others.get(self._named(self.volume, observation.metric))
        if volume is None:
            return None
        of = max(volume.value * volume.seconds, 0.0)
        return Tally(min(max(observation.value, 0.0), 1.0) * of, of)

    def is_proven(self, tally: Tally) -> bool:
        """Whether points that meet the rule are enough to believe it."""
        return tally.of >= self.min_volume and tally.exceeds(self.condition, self.limit or 0.0)

    def _holds(self, observation: Observation, margin: float | None = None) -> bool:
        """Whether the conditions hold; with a margin, have not recovered by it."""
        if self.condition == "unusual":
            holds = observation.is_anomaly if margin is None else not observation.is_calm
        else:
            limit = _nearer(self.condition, self.limit or 0.0, margin or 0.0)
            holds = observation.is_beyond(self.condition, limit)
        if not self.also:
            return holds
        results = [holds]
        for condition in self.also:
            other = observation.others.get(self._named(condition.metric, observation.metric))
            limit = _nearer(condition.condition, condition.limit, margin or 0.0)
            results.append(other is not None and other.is_beyond(condition.condition, limit))
        return all(results) if self.combine == "all" else any(results)


def _check_limit(condition: Comparison, limit: float) -> None:
    largest = {"drop": 1.0, "rise": 1e6}.get(condition)
    if largest is not None and not 0 < limit <= largest:
        raise ValueError("the limit must be a share, such as 0.5 for a drop by half")


def _nearer(condition: Comparison, limit: float, margin: float) -> float:
    return limit + margin * abs(limit) * (1 if condition == "below" else -1)


# The tenant defines the channels `page`, `slack` and `email`.
DEFAULT_RULES: Mapping[str, Rule] = {
    "error-rate": Rule(
        name="Error rate above 10 %",
        priority="P1",
        condition="above",
        limit=0.1,
        match=Match(metric="*error_rate"),
        volume="*requests",
        points=2,
        channels=("page",),
        escalation=("page", "email"),
        renotify_after=15,
        escalate_after=30,
    ),
    "usage-drop": Rule(
        name="Usage down by more than half",
        priority="P2",
        condition="drop",
        limit=0.5,
        match=Match(metric="*active_users"),
        counts=True,
        points=3,
        channels=("slack", "email"),
        renotify_after=240,
        escalate_after=240,
    ),
    "request-drop": Rule(
        name="Requests down by more than half",
        priority="P2",
        condition="drop",
        limit=0.5,
        match=Match(metric="*requests"),
        counts=True,
        points=3,
        channels=("slack", "email"),
        renotify_after=240,
        escalate_after=240,
    ),
    "unusual": Rule(name="Unusual pattern", priority="P3", condition="unusual"),
}
"""The rules that every tenant starts with."""


@dataclass(slots=True)
class Condition:
    """The state of one rule on one series: turns points into `fired` and `cleared`.

    Each time it fires again within `FLAP_POINTS` of clearing, recovery takes twice as
    long, so that a flapping series stays in one alert.

    matching: consecutive points that meet the condition, without a long pause.
    last: epoch seconds of the last of them.
    events, of: what they count together, see `counts.Tally`.
    recovered: consecutive points that have recovered, while firing.
    flaps: times it fired in quick succession, at most `MAX_FLAPS`.
    since: epoch seconds of the first matching point.
    points_since_cleared: while not firing.
    """

    matching: int = 0
    last: float | None = None
    events: float = 0.0
    of: float = 0.0
    recovered: int = 0
    is_firing: bool = False
    flaps: int = 0
    since: float | None = None
    points_since_cleared: int = 0

    FLAP_POINTS = 60
    MAX_FLAPS = 5

    @property
    def is_idle(self) -> bool:
        """Whether the state equals that of a new condition."""
        return (
            not self.is_firing
            and not self.matching
            and self.points_since_cleared > self.FLAP_POINTS
        )

    def update(self, rule: Rule, observation: Observation) -> Literal["fired", "cleared"] | None:
        """Take in the next point; what changed, if anything."""
        is_met, time = rule.is_met(observation), observation.time.timestamp()
        pause = time - (time if self.last is None else self.last)
        if observation.interval is not None and pause > MAX_PAUSE * observation.interval:
            self.matching = 0
        self.matching, self.last = (self.matching + 1, time) if is_met else (0, None)
        is_proven = self._count(rule, observation)
        if not self.is_firing:
            self.points_since_cleared += 1
            if self.matching == 1:
                self.since = time
            if self.points_since_cleared > self.FLAP_POINTS:
                self.flaps = 0
            lasted = time - (time if self.since is None else self.since)
            if self.matching < rule.points or lasted < 60 * rule.duration or not is_proven:
                return None
            self.flaps = min(self.flaps + 1, self.MAX_FLAPS)
            self.is_firing, self.recovered = True, 0
            return "fired"
        has_recovered = not is_met and rule.has_recovered(observation)
        self.recovered = self.recovered + 1 if has_recovered else 0
        if self.recovered < rule.recovery * 2 ** (self.flaps - 1):
            return None
        self.is_firing, self.points_since_cleared, self.matching = False, 0, 0
        return "cleared"

    def _count(self, rule: Rule, observation: Observation) -> bool:
        """Count in a point; whether what matches is enough to believe."""
        if self.matching <= 1:
            self.events = self.of = 0.0
        tally = rule.tally(observation) if self.matching else None
        if tally is None:
            return True
        tally = Tally(self.events, self.of) + tally
        self.events, self.of = tally.events, tally.of
        return self.is_firing or rule.is_proven(tally)
