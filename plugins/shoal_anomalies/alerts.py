"""Alerts, their members, what channels were told of them, and notices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .explanation import format_number
from .points import Labels
from .rules import Priority
from .timestamps import to_datetime, to_rfc3339

State = Literal["open", "acknowledged", "resolved"]
Reason = Literal["opened", "updated", "worsened", "reopened", "reminder", "escalated", "resolved"]


@dataclass(slots=True)
class Member:
    """One rule on one series within an alert. Times are epoch seconds.

    condition: of the rule, or "no data" where the series stopped, without a value.
    limit: of the rule; None for a rule without one.
    group: what the series that are told together have in common.
    since, fired, time, cleared: times of points: the first that met the rule, the one
        that opened the alert, the latest, and the one that cleared it.
    first_value, value: at `fired`, and the latest.
    others: the latest values of the other metrics that the rule looks at.
    news: when, by the clock on the wall, it fired.
    told: the channels that were told that it fired.
    """

    rule: str
    rule_name: str
    condition: str
    limit: float | None
    series: str
    metric: str
    labels: dict[str, str]
    group: str
    priority: Priority
    since: float
    fired: float
    first_value: float | None
    time: float
    value: float | None
    news: float
    others: dict[str, float] = field(default_factory=dict)
    sentence: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    cleared: float | None = None
    is_acknowledged: bool = False
    told: list[str] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        """Whether it has not cleared."""
        return self.cleared is None

    def recover(self, time: float, value: float) -> None:
        """Clear by a point, and say so."""
        self.time, self.value, self.cleared = time, value, time
        was = "it had no data"
        if self.first_value is not None:
            was = f"it was {format_number(self.first_value)}"
        began = f"{to_datetime(self.fired):%Y-%m-%d %H:%M} UTC"
        self.sentence = f"{self.metric} is {format_number(value)} again; {was} at {began}."


@dataclass(slots=True)
class Told:
    """What a channel was told about an alert. Times are by the clock on the wall.

    first, last: of the notices.
    count: how many there were.
    priority: the most urgent that was told since it last opened.
    is_open: False once it was told that the alert is resolved.
    """

    first: float
    last: float
    count: int
    priority: Priority
    is_open: bool = True


@dataclass(slots=True)
class Notice:
    """A message to send to a channel.

    key: identifies it for good: deciding again on the same state gives the same key.
    number: of the alert's notices to the channel, from 1: the order to send them in.
    news: `<rule>/<series>` of the members that the channel had not been told of.
    """

    key: str
    alert: str
    reason: Reason
    channel: str
    number: int
    news: tuple[str, ...] = ()


@dataclass(slots=True)
class Alert:
    """An incident: one or more related members.

    It is resolved while no member is active, acknowledged while all active members were
    acknowledged, else open.

    opened, updated: epoch seconds of the points that fired first and last.
    acknowledged, acknowledged_by: of the last acknowledgement, by the wall's clock.
    suppressed_by: maintenance windows because of which nobody is notified.
    inhibited_by: the alert of higher priority because of which nobody is notified.
    reopened: how often it opened again.
    told: by channel.
    announced, escalated: when, by rule: of the members that nobody has acknowledged.
    """

    id: str
    opened: float
    updated: float
    members: list[Member]
    acknowledged: float | None = None
    acknowledged_by: str | None = None
    suppressed_by: list[str] = field(default_factory=list)
    inhibited_by: str | None = None
    reopened: int = 0
    told: dict[str, Told] = field(default_factory=dict)
    announced: dict[str, float] = field(default_factory=dict)
    escalated: dict[str, float] = field(default_factory=dict)

    @property
    def active_members(self) -> list[Member]:
        """Members that have not cleared."""
        return [member for member in self.members if member.is_active]

    @property
    def state(self) -> State:
        """See the class."""
        active = self.active_members
        if not active:
            return "resolved"
        return "acknowledged" if all(m.is_acknowledged for m in active) else "open"

    @property
    def priority(self) -> Priority:
        """The most urgent of the active members; of all, once it is resolved."""
        return min(member.priority for member in self.active_members or self.members)

    @property
    def resolved(self) -> float | None:
        """When the last member cleared; None while one is active."""
        if self.active_members:
            return None
        return max(member.cleared or 0.0 for member in self.members)

    @property
    def sentence(self) -> str:
        """One line: the most urgent member's sentence, and the other metrics."""
        members = self.active_members or self.members
        lead = min(members, key=lambda member: (member.priority, member.fired))
        others = sorted({member.metric for member in members} - {lead.metric})
        sentence = lead.sentence or f"{lead.metric} = {lead.value}"
        return f"{sentence} Also: {', '.join(others)}." if others else sentence

    def notice(
        self, reason: Reason, channel: str, now: float, news: list[Member], shown: list[Member]
    ) -> Notice:
        """The next notice to a channel, which from now on counts as told.

        Args:
            reason: Of the notice.
            channel: Where it goes.
            now: Epoch seconds.
            news: The members that it is about.
            shown: All members that it shows as firing.
        """
        told = self.told.setdefault(channel, Told(now, now, 0, "P3"))
        for member in news:
            if channel not in member.told:
                member.told.append(channel)
        urgency = [member.priority for member in [*news, *shown]]
        told.priority = min(urgency if reason == "reopened" else [told.priority, *urgency])
        told.last, told.count, told.is_open = now, told.count + 1, reason != "resolved"
        return Notice(
            f"{self.id}/{reason}/{channel}/{told.count}",
            self.id,
            reason,
            channel,
            told.count,
            tuple(f"{member.rule}/{member.series}" for member in news),
        )

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Alert":
        """The alert that `dataclasses.asdict` was applied to."""
        members = [Member(**member) for member in record["members"]]
        told = {channel: Told(**known) for channel, known in record["told"].items()}
        return Alert(**{**record, "members": members, "told": told})

    def to_response(self) -> dict[str, Any]:
        """The alert as the API shows it: with RFC 3339 times and its sentence."""
        return {
            "id": self.id,
            "state": self.state,
            "priority": self.priority,
            "sentence": self.sentence,
            "opened": to_rfc3339(self.opened),
            "updated": to_rfc3339(max(self.updated, self.resolved or 0.0)),
            "resolved": to_rfc3339(self.resolved),
            "reopened": self.reopened,
            "acknowledged": to_rfc3339(self.acknowledged),
            "acknowledged_by": self.acknowledged_by,
            "suppressed_by": self.suppressed_by,
            "inhibited_by": self.inhibited_by,
            "notified": to_rfc3339(min((t.first for t in self.told.values()), default=None)),
            "told": {channel: _told(known) for channel, known in self.told.items()},
            "members": [_member(member) for member in self.members],
        }


def _told(known: Told) -> dict[str, Any]:
    times = {"first": to_rfc3339(known.first), "last": to_rfc3339(known.last)}
    return {**times, "notices": known.count, "resolved": not known.is_open}


def _member(member: Member) -> dict[str, Any]:
    record = asdict(member)
    del record["news"], record["group"]
    for name in ("since", "fired", "time", "cleared"):
        record[name] = to_rfc3339(record[name])
    record["acknowledged"] = record.pop("is_acknowledged")
    if detail := record["detail"]:
        times = {name: to_rfc3339(detail[name]) for name in ("time", "since")}
        record["detail"] = detail | times
    else:
        record["detail"] = None
    return record


def compatible_labels(a: Labels, b: Labels) -> bool:
    """Whether labels that both have are equal."""
    return all(b[key] == value for key, value in a.items() if key in b)
