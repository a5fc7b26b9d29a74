"""The alert manager: what fired becomes few alerts, and each alert the notices that it
owes. Pure: time is an argument.

An alert is open, acknowledged or resolved. Everything that must be sent is a `Notice`
with a key that is the same however often it is decided, so that the caller can store
alerts and notices in one write and send each once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from .maintenance import MaintenanceWindow
from .points import Labels
from .rules import Condition, Observation, Priority, Rule

State = Literal["open", "acknowledged", "resolved"]
Reason = Literal["opened", "worsened", "reopened", "reminder", "escalated", "resolved"]

CLOSE = timedelta(minutes=10)  # what fires within this of an alert's last member may join it
REOPEN = timedelta(
    minutes=30
)  # what fires again within this of its resolution is the same incident
KEPT = timedelta(hours=2)  # a resolved alert, until it goes to the history
CORRELATED = 0.6

Related = Callable[[str, str], float | None]
"""Correlation of two series (ids) lately, in [-1, 1]; None when it cannot be told."""


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
    """Something to send: `key` names it for good."""

    key: str
    alert: str
    reason: Reason
    channel: str


@dataclass(slots=True)
class Alert:
    """`suppressed_by` names the maintenance windows, `inhibited_by` the graver alert,
    for which nobody is told of it.
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
    notified: float | None = None  # when somebody was first told
    reminded: float | None = None
    reminders: int = 0
    escalated: float | None = None
    told: list[str] = field(default_factory=list)  # channels that heard of it
    reopened: int = 0
    feedback: list[dict[str, Any]] = field(default_factory=list)
    owed: list[Reason] = field(default_factory=list)  # worsened or reopened, and nobody told yet

    @property
    def active(self) -> list[Member]:
        return [m for m in self.members if m.cleared is None]

    @property
    def sentence(self) -> str:
        """One line for people: the gravest member's, and how many more there are."""
        lead = min(self.members, key=lambda m: (m.priority, m.fired))
        others = sorted({m.metric for m in self.members} - {lead.metric})
        return (lead.sentence or f"{lead.metric} = {lead.value:g}") + (
            f" With it: {', '.join(others)}." if others else ""
        )


@dataclass(slots=True)
class AlertBook:
    """All of one tenant's alerts and the state of its conditions; `to_dict` and
    `from_dict` carry it over restarts.
    """

    alerts: dict[str, Alert] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)  # "<rule>/<series>"

    def observe(
        self,
        seen: Observation,
        rules: Mapping[str, Rule],
        windows: Mapping[str, MaintenanceWindow] | None = None,
        *,
        related: Related | None = None,
        explain: Callable[[str, Rule], tuple[str, dict[str, Any]]] | None = None,
        quiet: bool = False,
    ) -> list[Notice]:
        """Take one point in; the notices that are due now. `explain` gives a member's
        sentence and detail when one fires.

        `quiet`, for points of long ago: the alerts are kept and nobody is told, unless
        it is still so when `tick` comes by.
        """
        notices: list[Notice] = []
        now = seen.time.timestamp()
        for name, rule in rules.items():
            if not rule.enabled or not rule.match.covers(seen.metric, seen.labels):
                continue
            key = f"{name}/{seen.series}"
            condition = self.conditions.get(key)
            if condition is None:
                if not rule.holds(seen):
                    continue  # nothing to remember of a series that is well
                condition = self.conditions[key] = Condition()
            change = condition.update(rule, seen)
            if change == "fired":
                sentence, detail = explain(name, rule) if explain else ("", {})
                member = Member(
                    name, seen.series, seen.metric, dict(seen.labels), rule.priority, condition.since or now, now, seen.value,
                    sentence, detail,
                )  # fmt: skip
                notices += self._fire(member, rules, windows or {}, related, quiet)
            elif change == "cleared":
                notices += self._clear(name, seen.series, now)
            elif not condition.firing and not condition.bad and condition.quiet > Condition.RECENT:
                del self.conditions[key]
        return notices

    def tick(
        self,
        now: datetime,
        rules: Mapping[str, Rule],
        windows: Mapping[str, MaintenanceWindow] | None = None,
    ) -> list[Notice]:
        """What time alone brings about: windows that ended, reminders and escalations."""
        notices: list[Notice] = []
        moment = now.timestamp()
        for alert in list(self.alerts.values()):
            if alert.state == "resolved":
                continue
            for member in alert.active:
                rule = rules.get(member.rule)
                if (
                    rule is None
                    or not rule.enabled
                    or not rule.match.covers(member.metric, member.labels)
                ):
                    # the rule is about it no longer: nothing else can clear it
                    notices += self._clear(member.rule, member.series, moment)
                    self.conditions.pop(f"{member.rule}/{member.series}", None)
            if not alert.active:
                continue
            notices += self._announce(alert, moment, rules, windows or {})
            if alert.state == "open" and alert.notified is not None and not self._graver(alert):
                notices += self._remind(alert, moment, rules, windows or {})
        return notices

    def acknowledge(self, alert_id: str, by: str | None, now: datetime) -> bool:
        """Somebody has it in hand: reminders and escalation stop. False when it is
        resolved already. KeyError when unknown.
        """
        alert = self.alerts[alert_id]
        if alert.state == "resolved":
            return False
        if alert.state == "open":
            alert.state, alert.acknowledged, alert.acknowledged_by = (
                "acknowledged",
                now.timestamp(),
                by,
            )
            alert.owed = []
        return True

    def resolve(self, alert_id: str, now: datetime) -> list[Notice]:
        """Close it by hand. Its conditions start afresh: what still holds opens a new
        alert. KeyError when unknown.
        """
        alert = self.alerts[alert_id]
        if alert.state == "resolved":
            return []
        for member in alert.active:
            member.cleared = now.timestamp()
            self.conditions.pop(f"{member.rule}/{member.series}", None)
        return self._resolve(alert, now.timestamp())

    def retire(self, now: datetime) -> list[Alert]:
        """Hand over, and forget, the alerts that have been resolved for so long that
        they will not open again.
        """
        limit = now.timestamp() - KEPT.total_seconds()
        old = [a for a in self.alerts.values() if a.resolved is not None and a.resolved < limit]
        for alert in old:
            del self.alerts[alert.id]
        return old

    def open_alerts(self) -> list[Alert]:
        return [a for a in self.alerts.values() if a.state != "resolved"]

    # What fires.

    def _fire(
        self,
        member: Member,
        rules: Mapping[str, Rule],
        windows: Mapping[str, MaintenanceWindow],
        related: Related | None,
        quiet: bool,
    ) -> list[Notice]:
        alert = self._same_again(member) or self._join(member, related)
        if alert is None:
            identity = blake2b(
                f"{member.rule}/{member.series}/{member.fired}".encode(), digest_size=8
            ).hexdigest()
            alert = Alert(identity, member.priority, "open", member.fired, [member], member.fired)
            self.alerts[identity] = alert
        alert.updated = member.fired
        if member.priority < alert.priority:
            alert.priority = member.priority
            if alert.told:
                alert.owed.append("worsened")
                alert.state = "open"
        return [] if quiet else self._announce(alert, member.fired, rules, windows)

    def _same_again(self, member: Member) -> Alert | None:
        """The alert that this condition belongs to, or was in until lately: then that
        opens again, and who heard that it was over hears that it is not, unless it is
        acknowledged.
        """
        for alert in self.alerts.values():
            for old in alert.members:
                if (old.rule, old.series) != (member.rule, member.series):
                    continue
                if alert.state == "resolved":
                    if member.fired - (alert.resolved or 0.0) > REOPEN.total_seconds():
                        continue
                    alert.state = "acknowledged" if alert.acknowledged is not None else "open"
                    alert.resolved = None
                    alert.reopened += 1
                    if alert.state == "open" and alert.notified is not None:
                        alert.owed.append("reopened")
                old.cleared, old.value = None, member.value
                old.fired = member.fired
                return alert
        return None

    def _join(self, member: Member, related: Related | None) -> Alert | None:
        """The open alert that this is part of: close in time, no label that says
        otherwise, and correlated if that is known.
        """
        best: tuple[float, Alert] | None = None
        for alert in self.open_alerts():
            same = any(m.series == member.series for m in alert.active)
            if not same and member.fired - alert.updated > CLOSE.total_seconds():
                continue
            strength = max((_relation(member, m, related) for m in alert.active), default=0.0)
            if strength > 0 and (best is None or strength > best[0]):
                best = strength, alert
        if best is None:
            return None
        best[1].members.append(member)
        return best[1]

    def _clear(self, rule: str, series: str, now: float) -> list[Notice]:
        for alert in self.open_alerts():
            for member in alert.active:
                if (member.rule, member.series) == (rule, series):
                    member.cleared = now
                    return [] if alert.active else self._resolve(alert, now)
        return []

    def _resolve(self, alert: Alert, now: float) -> list[Notice]:
        alert.state, alert.resolved = "resolved", now
        heard = (
            alert.notified is not None and "reopened" not in alert.owed
        )  # else they think that it is over
        alert.owed = []
        return self._tell(alert, "resolved", list(alert.told)) if heard else []

    # Who is told.

    def _announce(
        self,
        alert: Alert,
        now: float,
        rules: Mapping[str, Rule],
        windows: Mapping[str, MaintenanceWindow],
    ) -> list[Notice]:
        """Tell of an alert that nobody has heard of, that worsened or opened again,
        unless maintenance or a graver alert keeps it quiet just now: then it is told
        when that is over, if it is still so.
        """
        windows_of = [_held_by(member, now, windows) for member in alert.active]
        heard = [m for m, by in zip(alert.active, windows_of, strict=True) if not by]
        loud = [m for m in heard if not self._recovering(m)]
        if loud or (heard and alert.notified is not None):
            alert.suppressed_by = []
        else:
            alert.suppressed_by = sorted({*alert.suppressed_by}.union(*windows_of))
        graver = self._graver(alert)
        if graver:
            alert.inhibited_by = graver.id
        if graver or not loud:
            return []
        alert.inhibited_by = None
        notices: list[Notice] = []
        if "reopened" in alert.owed:
            notices += self._tell(alert, "reopened", list(alert.told))
        worse = "worsened" in alert.owed and any(m.priority == alert.priority for m in loud)
        if worse:
            notices += self._tell(alert, "worsened", self._channels(heard, rules))
        alert.owed = ["worsened"] if "worsened" in alert.owed and not worse else []
        channels = [c for c in self._channels(loud, rules) if c not in alert.told]
        if alert.notified is None:
            alert.notified = now
        return notices + self._tell(alert, "opened", channels)

    def _recovering(self, member: Member) -> bool:
        """Whether it has begun to look well again: no news to begin with, such as when
        maintenance ends.
        """
        condition = self.conditions.get(f"{member.rule}/{member.series}")
        return condition is not None and condition.good > 0

    def _graver(self, alert: Alert) -> Alert | None:
        """The open P1 that silences this P3: they are about the same thing as far as
        their labels go.
        """
        if alert.priority != "P3":
            return None
        for other in self.open_alerts():
            if other.priority == "P1" and other.notified is not None and any(
                _compatible(a.labels, b.labels) for a in alert.members for b in other.members
            ):  # fmt: skip
                return other
        return None

    def _remind(
        self,
        alert: Alert,
        now: float,
        rules: Mapping[str, Rule],
        windows: Mapping[str, MaintenanceWindow],
    ) -> list[Notice]:
        """Reminders and the escalation that are due, by the rules of what no
        maintenance covers.
        """
        heard = [m for m in alert.active if not _held_by(m, now, windows)]
        lead = [rules[m.rule] for m in heard if m.rule in rules]
        notices: list[Notice] = []
        since = alert.notified or now
        due = [r for r in lead if r.escalation and now - since >= 60 * r.escalate_after]
        if due and alert.escalated is None:
            alert.escalated = now
            channels = list(dict.fromkeys(c for r in due for c in r.escalation))
            notices += self._tell(alert, "escalated", channels)
        waits = [60 * r.renotify_after for r in lead if r.renotify_after is not None]
        if waits and now - (alert.reminded or since) >= min(waits):
            alert.reminded = now
            alert.reminders += 1
            notices += self._tell(alert, "reminder", self._channels(heard, rules))
        return notices

    @staticmethod
    def _channels(members: Sequence[Member], rules: Mapping[str, Rule]) -> list[str]:
        return list(
            dict.fromkeys(c for m in members if m.rule in rules for c in rules[m.rule].channels)
        )

    @staticmethod
    def _tell(alert: Alert, reason: Reason, channels: Sequence[str]) -> list[Notice]:
        alert.told = list(dict.fromkeys([*alert.told, *channels]))
        part = {"reminder": f"/{alert.reminders}", "worsened": f"/{alert.priority}"}
        part["resolved"] = part["reopened"] = f"/{alert.reopened}"
        return [
            Notice(f"{alert.id}/{reason}{part.get(reason, '')}/{c}", alert.id, reason, c)
            for c in channels
        ]

    # Over restarts.

    def to_dict(self) -> dict[str, Any]:
        return {
            "alerts": [asdict(alert) for alert in self.alerts.values()],
            "conditions": {key: asdict(condition) for key, condition in self.conditions.items()},
        }

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "AlertBook":
        alerts = [
            Alert(**{**a, "members": [Member(**m) for m in a["members"]]})
            for a in record.get("alerts", ())
        ]
        conditions = {key: Condition(**c) for key, c in record.get("conditions", {}).items()}
        return AlertBook({alert.id: alert for alert in alerts}, conditions)


def alert_from(record: Mapping[str, Any]) -> Alert:
    """The alert that `dataclasses.asdict` was taken of."""
    return Alert(**{**record, "members": [Member(**m) for m in record["members"]]})


def _held_by(member: Member, now: float, windows: Mapping[str, MaintenanceWindow]) -> list[str]:
    """The maintenance windows that are open over it."""
    moment = datetime.fromtimestamp(now, UTC)
    return [
        name
        for name, window in windows.items()
        if window.covers(member.metric, member.labels, moment)
    ]


def _compatible(a: Labels, b: Labels) -> bool:
    return all(b[key] == value for key, value in a.items() if key in b)


def _relation(a: Member, b: Member, related: Related | None) -> float:
    """How surely two members are one incident, in [0, 1]."""
    if a.series == b.series:
        return 1.0
    if not _compatible(a.labels, b.labels):
        return 0.0
    correlation = related(a.series, b.series) if related else None
    if correlation is None:
        return 0.5
    return abs(correlation) if abs(correlation) >= CORRELATED else 0.0
