"""The alert manager: groups what fires into few alerts, and decides who is notified.

It is pure: time is an argument. Deciding again on the same state gives notices with the
same keys, so the caller can store alerts and notices in one write and send each once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from .alerts import Alert, Member, Notice, compatible_labels
from .maintenance import MaintenanceWindow
from .rules import Condition, Observation, Rule
from .timestamps import to_datetime

JOIN_WITHIN = timedelta(minutes=10)  # of an alert's last member
REOPEN_WITHIN = timedelta(minutes=30)  # of an alert's resolution
RESOLVED_RETENTION = timedelta(hours=2)  # until a resolved alert moves to the history
MIN_CORRELATION = 0.6
UNKNOWN_CORRELATION = 0.5  # how strongly two series are taken to be related then

Rules = Mapping[str, Rule]
Windows = Mapping[str, MaintenanceWindow]
Correlation = Callable[[str, str], float | None]
"""Recent correlation of two series (ids), in [-1, 1]; None if it is unknown."""
Explain = Callable[[], tuple[str, dict[str, Any]]]
"""The sentence and the detail of the observation that fired."""


@dataclass(slots=True)
class AlertManager:
    """All alerts of one tenant, and the state of its rules on each series.

    conditions: by `<rule>/<series>`.
    """

    alerts: dict[str, Alert] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)

    def observe(
        self,
        observation: Observation,
        rules: Rules,
        windows: Windows | None = None,
        *,
        correlation: Correlation | None = None,
        explain: Explain | None = None,
        notify: bool = True,
    ) -> list[Notice]:
        """Take in one scored point.

        Args:
            observation: The point.
            rules: The tenant's rules by name.
            windows: The tenant's maintenance windows by name.
            correlation: Decides whether two series belong to one alert.
            explain: Called when a rule fires.
            notify: False for old points: alerts open, and somebody is notified only if
                they are still open at the next `advance`.

        Returns:
            The notices that are due now.
        """
        notices: list[Notice] = []
        now = observation.time.timestamp()
        for name, rule in rules.items():
            if not rule.applies_to(observation.metric, observation.labels):
                continue
            key = f"{name}/{observation.series}"
            condition = self.conditions.get(key)
            if condition is None:
                if not rule.is_met(observation):
                    continue  # nothing to remember
                condition = self.conditions[key] = Condition()
            change = condition.update(rule, observation)
            if change == "fired":
                member = _member(name, rule, observation, condition, explain)
                alert = self._add_member(member, correlation)
                if notify:
                    notices += self._announce(alert, now, rules, windows or {})
            elif change == "cleared":
                notices += self._clear_member(name, observation.series, now)
            elif condition.is_idle:
                del self.conditions[key]
        return notices

    def advance(self, now: datetime, rules: Rules, windows: Windows | None = None) -> list[Notice]:
        """The notices that are due because time has passed or rules have changed."""
        notices: list[Notice] = []
        seconds = now.timestamp()
        for alert in self.open_alerts():
            for member in alert.active_members:
                rule = rules.get(member.rule)
                if rule is None or not rule.applies_to(member.metric, member.labels):
                    # No later point can clear it.
                    notices += self._clear_member(member.rule, member.series, seconds)
                    self.conditions.pop(f"{member.rule}/{member.series}", None)
            if not alert.active_members:
                continue
            notices += self._announce(alert, seconds, rules, windows or {})
            is_unacknowledged = alert.state == "open" and alert.notified is not None
            if is_unacknowledged and not self._inhibiting_alert(alert):
                notices += _remind(alert, seconds, rules, windows or {})
        return notices

    def acknowledge(self, alert_id: str, user: str | None, now: datetime) -> bool:
        """Acknowledge an alert, which stops its reminders and escalation.

        Returns:
            Whether it was not resolved yet.

        Raises:
            KeyError: There is no such alert.
        """
        alert = self.alerts[alert_id]
        if alert.state == "resolved":
            return False
        if alert.state == "open":
            alert.state = "acknowledged"
            alert.acknowledged, alert.acknowledged_by = now.timestamp(), user
            alert.owed = []
        return True

    def resolve(self, alert_id: str, now: datetime) -> list[Notice]:
        """Resolve an alert by hand; a rule that is still met opens it again.

        Raises:
            KeyError: There is no such alert.
        """
        alert = self.alerts[alert_id]
        if alert.state == "resolved":
            return []
        for member in alert.active_members:
            member.cleared = now.timestamp()
            self.conditions.pop(f"{member.rule}/{member.series}", None)
        return _resolve(alert, now.timestamp())

    def remove_old(self, now: datetime) -> list[Alert]:
        """Remove and return alerts that were resolved too long ago to open again."""
        limit = now.timestamp() - RESOLVED_RETENTION.total_seconds()
        old = [a for a in self.alerts.values() if a.resolved is not None and a.resolved < limit]
        for alert in old:
            del self.alerts[alert.id]
        return old

    def open_alerts(self) -> list[Alert]:
        """Alerts that are not resolved, acknowledged ones included."""
        return [alert for alert in self.alerts.values() if alert.state != "resolved"]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON; `from_dict` is the inverse."""
        return {
            "alerts": [asdict(alert) for alert in self.alerts.values()],
            "conditions": {key: asdict(condition) for key, condition in self.conditions.items()},
        }

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "AlertManager":
        """The manager that `to_dict` was called on."""
        alerts = [Alert.from_dict(alert) for alert in record.get("alerts", ())]
        conditions = {key: Condition(**c) for key, c in record.get("conditions", {}).items()}
        return AlertManager({alert.id: alert for alert in alerts}, conditions)

    def _add_member(self, member: Member, correlation: Correlation | None) -> Alert:
        """Add what fired to the alert it belongs to, or to a new one."""
        alert = self._find_or_reopen(member) or self._join_related(member, correlation)
        if alert is None:
            identity = f"{member.rule}/{member.series}/{member.fired}"
            alert_id = blake2b(identity.encode(), digest_size=8).hexdigest()
            alert = Alert(alert_id, member.priority, "open", member.fired, [member], member.fired)
            self.alerts[alert_id] = alert
        alert.updated = member.fired
        if member.priority < alert.priority:
            alert.priority = member.priority
            if alert.told:
                alert.owed.append("worsened")
                alert.state = "open"
        return alert

    def _find_or_reopen(self, member: Member) -> Alert | None:
        """The alert that this rule and series are in, or recently were in.

        A resolved one opens again. Whoever was notified of its resolution will be
        notified of that too, unless it was acknowledged.
        """
        for alert in self.alerts.values():
            for old in alert.members:
                if (old.rule, old.series) != (member.rule, member.series):
                    continue
                if alert.state == "resolved":
                    if member.fired - (alert.resolved or 0.0) > REOPEN_WITHIN.total_seconds():
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

    def _join_related(self, member: Member, correlation: Correlation | None) -> Alert | None:
        """Add the member to the most strongly related open alert, if there is one."""
        best: tuple[float, Alert] | None = None
        for alert in self.open_alerts():
            active = alert.active_members
            has_series = any(m.series == member.series for m in active)
            age = member.fired - alert.updated
            if not has_series and age > JOIN_WITHIN.total_seconds():
                continue
            strength = max((_relation(member, m, correlation) for m in active), default=0.0)
            if strength > 0 and (best is None or strength > best[0]):
                best = strength, alert
        if best is None:
            return None
        best[1].members.append(member)
        return best[1]

    def _clear_member(self, rule: str, series: str, now: float) -> list[Notice]:
        for alert in self.open_alerts():
            for member in alert.active_members:
                if (member.rule, member.series) == (rule, series):
                    member.cleared = now
                    return [] if alert.active_members else _resolve(alert, now)
        return []

    def _announce(self, alert: Alert, now: float, rules: Rules, windows: Windows) -> list[Notice]:
        """Notices of an alert that is new, worsened or opened again.

        Maintenance and an alert of higher priority delay them until they are over; then
        they are due if the alert is still active.
        """
        covering = [_covering_windows(member, now, windows) for member in alert.active_members]
        audible = [m for m, by in zip(alert.active_members, covering, strict=True) if not by]
        unrecovered = [m for m in audible if not self._is_recovering(m)]
        if unrecovered or (audible and alert.notified is not None):
            alert.suppressed_by = []
        else:
            alert.suppressed_by = sorted({*alert.suppressed_by}.union(*covering))
        inhibiting = self._inhibiting_alert(alert)
        if inhibiting:
            alert.inhibited_by = inhibiting.id
        if inhibiting or not unrecovered:
            return []
        alert.inhibited_by = None
        notices: list[Notice] = []
        if "reopened" in alert.owed:
            notices += alert.notices("reopened", list(alert.told))
        worsened = "worsened" in alert.owed and any(
            m.priority == alert.priority for m in unrecovered
        )
        if worsened:
            notices += alert.notices("worsened", _channels(audible, rules))
        alert.owed = ["worsened"] if "worsened" in alert.owed and not worsened else []
        new_channels = [c for c in _channels(unrecovered, rules) if c not in alert.told]
        if alert.notified is None:
            alert.notified = now
        return notices + alert.notices("opened", new_channels)

    def _is_recovering(self, member: Member) -> bool:
        """Whether its last points have recovered, so that it is no news by now."""
        condition = self.conditions.get(f"{member.rule}/{member.series}")
        return condition is not None and condition.recovered > 0

    def _inhibiting_alert(self, alert: Alert) -> Alert | None:
        """The open P1 with compatible labels that silences this P3."""
        if alert.priority != "P3":
            return None
        for other in self.open_alerts():
            is_known_p1 = other.priority == "P1" and other.notified is not None
            if is_known_p1 and alert.is_compatible_with(other):
                return other
        return None


def _member(
    name: str,
    rule: Rule,
    observation: Observation,
    condition: Condition,
    explain: Explain | None,
) -> Member:
    now = observation.time.timestamp()
    sentence, detail = explain() if explain else ("", {})
    return Member(
        rule=name,
        series=observation.series,
        metric=observation.metric,
        labels=dict(observation.labels),
        priority=rule.priority,
        since=condition.since or now,
        fired=now,
        value=observation.value,
        sentence=sentence,
        detail=detail,
    )


def _resolve(alert: Alert, now: float) -> list[Notice]:
    alert.state, alert.resolved = "resolved", now
    # Whoever was not notified that it opened again still takes it for resolved.
    is_known_open = alert.notified is not None and "reopened" not in alert.owed
    alert.owed = []
    return alert.notices("resolved", list(alert.told)) if is_known_open else []


def _remind(alert: Alert, now: float, rules: Rules, windows: Windows) -> list[Notice]:
    """Reminders and the escalation that are due, by the rules outside maintenance."""
    audible = [m for m in alert.active_members if not _covering_windows(m, now, windows)]
    applicable = [rules[m.rule] for m in audible if m.rule in rules]
    notices: list[Notice] = []
    since = alert.notified or now
    due = [r for r in applicable if r.escalation and now - since >= 60 * r.escalate_after]
    if due and alert.escalated is None:
        alert.escalated = now
        channels = list(dict.fromkeys(c for rule in due for c in rule.escalation))
        notices += alert.notices("escalated", channels)
    waits = [60 * r.renotify_after for r in applicable if r.renotify_after is not None]
    if waits and now - (alert.reminded or since) >= min(waits):
        alert.reminded = now
        alert.reminders += 1
        notices += alert.notices("reminder", _channels(audible, rules))
    return notices


def _channels(members: Sequence[Member], rules: Rules) -> list[str]:
    return list(
        dict.fromkeys(c for m in members if m.rule in rules for c in rules[m.rule].channels)
    )


def _covering_windows(member: Member, now: float, windows: Windows) -> list[str]:
    at = to_datetime(now)
    return [
        name for name, window in windows.items() if window.covers(member.metric, member.labels, at)
    ]


def _relation(a: Member, b: Member, correlation: Correlation | None) -> float:
    """How strongly two members are related, in [0, 1]."""
    if a.series == b.series:
        return 1.0
    if not compatible_labels(a.labels, b.labels):
        return 0.0
    strength = correlation(a.series, b.series) if correlation else None
    if strength is None:
        return UNKNOWN_CORRELATION
    return abs(strength) if abs(strength) >= MIN_CORRELATION else 0.0
