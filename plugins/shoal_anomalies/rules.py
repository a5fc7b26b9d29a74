"""Rules: which observations are worth an alert, of which priority, and who is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .maintenance import Match
from .points import Labels

Priority = Literal["P1", "P2", "P3"]
ChannelName = Annotated[str, Field(min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class Observation:
    """One scored point. `expected` is None while nothing is expected yet; `alarm` is
    the detector's verdict, and `calm` that it is well below one.
    """

    metric: str
    labels: Labels
    series: str
    time: datetime
    value: float
    expected: float | None = None
    alarm: bool = False
    calm: bool = True


class Rule(BaseModel):
    """When the condition holds for `points` points in a row, its alert opens; when it
    has not held for `recovery`, it resolves.

    condition: `above` and `below` compare the value with `limit`; `drop` and `rise`
    compare the share by which it lies under or over what is expected; `unusual` follows
    the detector and takes no limit. margin: hysteresis: the share of the limit by which
    a value must come back before it counts as recovered. channels: who is told at once.
    escalation: who else is told when nobody acknowledged within `escalate_after`
    minutes. renotify_after: minutes after which the first are told again, while it is
    open and unacknowledged (None: never).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(default="", max_length=200)
    priority: Priority
    condition: Literal["above", "below", "drop", "rise", "unusual"]
    limit: float | None = None
    match: Match = Match()
    points: int = Field(default=1, ge=1, le=1000)
    recovery: int = Field(default=3, ge=1, le=1000)
    margin: float = Field(default=0.1, ge=0, lt=1)
    channels: tuple[ChannelName, ...] = Field(default=(), max_length=20)
    escalation: tuple[ChannelName, ...] = Field(default=(), max_length=20)
    escalate_after: float = Field(default=30, gt=0, le=10_080)
    renotify_after: float | None = Field(default=None, gt=0, le=10_080)
    enabled: bool = True

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.condition == "unusual" and self.limit is not None:
            raise ValueError("an `unusual` rule follows the detector and takes no limit")
        if self.condition != "unusual" and self.limit is None:
            raise ValueError(f"a rule of the condition `{self.condition}` needs a limit")
        if self.condition in ("drop", "rise") and not 0 < (self.limit or 0) <= (
            1 if self.condition == "drop" else 1e6
        ):
            raise ValueError("the limit is a share: 0.5 is a drop by half")
        return self

    def holds(self, seen: Observation) -> bool:
        """Whether the condition holds at this point."""
        return seen.alarm if self.condition == "unusual" else self._beyond(seen, self.limit or 0.0)

    def recovered(self, seen: Observation) -> bool:
        """Whether the point is back beyond doubt: past the margin, not merely at the
        limit.
        """
        if self.condition == "unusual":
            return seen.calm
        limit = self.limit or 0.0
        room = self.margin * abs(limit)
        return not self._beyond(seen, limit + room if self.condition == "below" else limit - room)

    def _beyond(self, seen: Observation, limit: float) -> bool:
        if self.condition == "above":
            return seen.value > limit
        if self.condition == "below":
            return seen.value < limit
        if seen.expected is None or seen.expected == 0:
            return False
        change = (seen.value - seen.expected) / abs(seen.expected)
        return -change > limit if self.condition == "drop" else change > limit


DEFAULT_RULES: Mapping[str, Rule] = {
    "error-rate": Rule(
        name="Error rate above 10 %", priority="P1", condition="above", limit=0.1, match=Match(metric="*error_rate"),
        points=2, channels=("page",), escalation=("page", "email"), renotify_after=15, escalate_after=30,
    ),
    "usage-drop": Rule(
        name="Usage down by more than half", priority="P2", condition="drop", limit=0.5,
        match=Match(metric="*active_users"), points=3, channels=("slack", "email"), renotify_after=240, escalate_after=240,
    ),
    "request-drop": Rule(
        name="Requests down by more than half", priority="P2", condition="drop", limit=0.5,
        match=Match(metric="*requests"), points=3, channels=("slack", "email"), renotify_after=240, escalate_after=240,
    ),
    "unusual": Rule(name="Unusual pattern", priority="P3", condition="unusual"),
}  # fmt: skip
"""What every tenant starts with. The channels `page`, `slack` and `email` are the
tenant's to define.
"""


@dataclass(slots=True)
class Condition:
    """One rule on one series: turns points into `fired` and `cleared`, with hysteresis.

    Each time it fires again soon after it cleared (within `recent` points), recovery
    takes twice as long, so that a series that flaps stays in one alert.
    """

    bad: int = 0
    good: int = 0
    firing: bool = False
    flaps: int = 0
    since: float | None = None  # epoch seconds of the first point that held
    quiet: int = 0  # points since it cleared

    RECENT = 60
    MOST = 5

    def update(self, rule: Rule, seen: Observation) -> Literal["fired", "cleared"] | None:
        holds = rule.holds(seen)
        self.bad = self.bad + 1 if holds else 0
        if not self.firing:
            self.quiet += 1
            if self.bad == 1:
                self.since = seen.time.timestamp()
            if self.quiet > self.RECENT:
                self.flaps = 0
            if self.bad < rule.points:
                return None
            self.flaps = min(self.flaps + 1, self.MOST)
            self.firing, self.good = True, 0
            return "fired"
        self.good = self.good + 1 if not holds and rule.recovered(seen) else 0
        if self.good < rule.recovery * 2 ** (self.flaps - 1):
            return None
        self.firing, self.quiet, self.bad = False, 0, 0
        return "cleared"
