"""Alerts, their members, and the notices that they cause."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .points import Labels
from .rules import Priority
from .timestamps import to_rfc3339

State = Literal["open", "acknowledged", "resolved"]
Reason = Literal["opened", "worsened", "reopened", "reminder", "escalated", "resolved"]

TIMES = ("opened", "updated", "acknowledged", "resolved", "notified", "reminded", "escalated")


@dataclass(slots=True)
class Member:
    """One rule on one series within an alert. Times are epoch seconds."""

    rule: str
    series: str
    metric: str
    labels: dict[str, str]
    priority: Priority
    since: float
    fired: float
    value: float
    sentence: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    cleared: float | None = None


@dataclass(slots=True)
class Notice:
    """A message to send to a channel.

    key: identifies it for good: deciding again on the same state gives the same key.
    """

    key: str
    alert: str
    reason: Reason
    channel: str


@dataclass(slots=True)
class Alert:
    """An incident: one or more related members. Times are epoch seconds.

    suppressed_by: maintenance windows because of which nobody is notified.
    inhibited_by: the alert of higher priority because of which nobody is notified.
    notified: when somebody was first notified.
    told: channels that were notified.
    reopened: how often it opened again.
    owed: reasons for which a notice is still due.
    """

    id: str
    priority: Priority
    state: State
    opened: float
    members: list[Member]
    updated: float
    acknowledged: float | None = None
    acknowledged_by: str | None = None
    resolved: float | None = None
    suppressed_by: list[str] = field(default_factory=list)
    inhibited_by: str | None = None
    notified: float | None = None
    reminded: float | None = None
    reminders: int = 0
    escalated: float | None = None
    told: list[str] = field(default_factory=list)
    reopened: int = 0
    owed: list[Reason] = field(default_factory=list)

    @property
    def active_members(self) -> list[Member]:
        """Members that have not cleared."""
        return [member for member in self.members if member.cleared is None]

    @property
    def sentence(self) -> str:
        """One line: the most urgent member's sentence, and the other metrics."""
        lead = min(self.members, key=lambda member: (member.priority, member.fired))
        others = sorted({member.metric for member in self.members} - {lead.metric})
        sentence = lead.sentence or f"{lead.metric} = {lead.value:g}"
        return f"{sentence} Also: {', '.join(others)}." if others else sentence

    def is_compatible_with(self, other: "Alert") -> bool:
        """Whether the labels of any two members agree."""
        return any(
            compatible_labels(a.labels, b.labels) for a in self.members for b in other.members
        )

    def notices(self, reason: Reason, channels: list[str]) -> list[Notice]:
        """Notices to these channels, which from now on count as notified."""
        self.told = list(dict.fromkeys([*self.told, *channels]))
        detail = {
            "reminder": f"/{self.reminders}",
            "worsened": f"/{self.priority}",
            "resolved": f"/{self.reopened}",
            "reopened": f"/{self.reopened}",
        }.get(reason, "")
        return [
            Notice(f"{self.id}/{reason}{detail}/{channel}", self.id, reason, channel)
            for channel in channels
        ]

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Alert":
        """The alert that `dataclasses.asdict` was applied to."""
        return Alert(**{**record, "members": [Member(**member) for member in record["members"]]})

    def to_response(self) -> dict[str, Any]:
        """The alert as the API shows it: with RFC 3339 times and its sentence."""
        record = asdict(self)
        for name in TIMES:
            record[name] = to_rfc3339(record[name])
        for member in record["members"]:
            for name in ("since", "fired", "cleared"):
                member[name] = to_rfc3339(member[name])
            if detail := member["detail"]:
                times = {name: to_rfc3339(detail[name]) for name in ("time", "since")}
                member["detail"] = detail | times
            else:
                member["detail"] = None
        return {**record, "sentence": self.sentence}


def compatible_labels(a: Labels, b: Labels) -> bool:
    """Whether labels that both have are equal."""
    return all(b[key] == value for key, value in a.items() if key in b)
