"""Rules: which points raise an alert, with which priority, and who is notified."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoal import Identifier, Number

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
    channels: notified of what fires, `group_wait` minutes after it, with all that fires
        meanwhile. Of further series no sooner than `group_interval` minutes after the
        last notice.
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
    condition: Literal["above", "below", "drop", "rise", "unusual"]
    limit: Number | None = None
    match: Match = Match()
    duration: float = Field(default=0, ge=0, le=10_080, alias="for")
    points: int = Field(default=1, ge=1, le=1000)
    recovery: int = Field(default=3, ge=1, le=1000)
    margin: float = Field(default=0.1, ge=0, lt=1)
    group_by: tuple[Annotated[str, Field(max_length=MAX_NAME_LENGTH)], ...] = Field(
        default=(), max_length=MAX_LABELS
    )
    group_wait: float = Field(default=0.5, ge=0, le=1_440)
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
        largest = {"drop": 1.0, "rise": 1e6}.get(self.condition)
        if largest is not None and not 0 < (self.limit or 0) <= largest:
            raise ValueError("the limit must be a share, such as 0.5 for a drop by half")
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

    def is_met(self, observation: Observation) -> bool:
        """Whether the point meets the condition."""
        if self.condition == "unusual":
            return observation.is_anomaly
        return self._is_beyond(observation, self.limit or 0.0)

    def has_recovered(self, observation: Observation) -> bool:
        """Whether the point is within the limit by the margin."""
        if self.condition == "unusual":
            return observation.is_calm
        limit = self.limit or 0.0
        margin = self.margin * abs(limit)
        inner_limit = limit + margin if self.condition == "below" else limit - margin
        return not self._is_beyond(observation, inner_limit)

    def _is_beyond(self, observation: Observation, limit: float) -> bool:
        value, expected = observation.value, observation.expected
        if self.condition == "above":
            return value > limit
        if self.condition == "below":
            return value < limit
        if expected is None or expected == 0:
            return False
        change = (value - expected) / abs(expected)
        return -change > limit if self.condition == "drop" else change > limit


# The tenant defines the channels `page`, `slack` and `email`.
DEFAULT_RULES: Mapping[str, Rule] = {
    "error-rate": Rule(
        name="Error rate above 10 %",
        priority="P1",
        condition="above",
        limit=0.1,
        match=Match(metric="*error_rate"),
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
    recovered: consecutive points that have recovered, while firing.
    flaps: times it fired in quick succession, at most `MAX_FLAPS`.
    since: epoch seconds of the first matching point.
    points_since_cleared: while not firing.
    """

    matching: int = 0
    last: float | None = None
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
        if not self.is_firing:
            self.points_since_cleared += 1
            if self.matching == 1:
                self.since = time
            if self.points_since_cleared > self.FLAP_POINTS:
                self.flaps = 0
            lasted = time - (time if self.since is None else self.since)
            if self.matching < rule.points or lasted < 60 * rule.duration:
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
