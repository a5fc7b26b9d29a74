"""The alert manager: what fires, and which alert it belongs to.

It is pure: time is an argument. Points change alerts (`observe`), people do
(`acknowledge`, `resolve`), and `advance` decides who is told. Deciding again on the
same state gives notices with the same keys, so the caller can store alerts and notices
in one write and send each once.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from .alert_notices import NoticeDecider
from .alerts import Alert, Member, Notice, compatible_labels
from .explanation import format_number
from .maintenance import MaintenanceWindow
from .points import Labels
from .rhythm import Rhythm
from .rules import Condition, Observation, Rule
from .timestamps import to_datetime

JOIN_WITHIN = timedelta(minutes=10)  # of an alert's last member
REOPEN_WITHIN = timedelta(minutes=30)  # within which a rule that fires again is no news
RESOLVED_RETENTION = timedelta(hours=2)  # until a resolved alert moves to the history
MIN_CORRELATION = 0.6
UNKNOWN_CORRELATION = 0.5  # of two series with equal labels
NO_DATA = "no data"
MAX_SILENCE = timedelta(days=90)  # after which a series is forgotten
CHECK_EVERY = 60.0  # seconds, while an alert is open

Rules = Mapping[str, Rule]
Windows = Mapping[str, MaintenanceWindow]
Correlation = Callable[[str, str], float | None]
"""Recent correlation of two series (ids), in [-1, 1]; None if it is unknown."""
Explain = Callable[[], tuple[str, dict[str, Any]]]
"""The sentence and the detail of the newest observation of a series."""


@dataclass(slots=True)
class AlertManager:
    """All alerts of one tenant, and the state of its rules on each series.

    conditions: by `<rule>/<series>`.
    rhythms: by series, of those that a rule watches for silence.
    """

    alerts: dict[str, Alert] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)
    rhythms: dict[str, Rhythm] = field(default_factory=dict)
    _members: dict[tuple[str, str], tuple[Alert, Member]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The newest by rule and series."""
    _groups: dict[str, list[Alert]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        members = [(a, member) for a in self.alerts.values() for member in a.members]
        members.sort(key=lambda pair: (pair[1].is_active, pair[1].fired))
        for alert, member in members:
            self._index(alert, member)

    def observe(
        self,
        observation: Observation,
        rules: Rules,
        now: datetime,
        *,
        correlation: Correlation | None = None,
        explain: Explain | None = None,
    ) -> None:
        """Take in one scored point.

        Args:
            observation: The point.
            rules: The tenant's rules by name.
            now: The time by the clock on the wall.
            correlation: Decides whether two series belong to one alert.
            explain: Called when a rule fires.
        """
        time, series = observation.time.timestamp(), observation.series
        self._hear(observation, rules, now.timestamp())
        for name, rule in rules.items():
            if not rule.applies_to(observation.metric, observation.labels):
                continue
            key = f"{name}/{series}"
            condition = self.conditions.get(key)
            if condition is None:
                if not rule.is_met(observation):
                    continue  # nothing to remember
                condition = self.conditions[key] = Condition()
            change = condition.update(rule, observation)
            if change == "fired":
                fired = _member(name, rule, observation, condition, now, explain)
                self._fire(fired, correlation)
            elif (member := self._active_member(name, series)) is not None:
                member.time, member.value = time, observation.value
                member.priority, member.limit = rule.priority, rule.limit
                member.others = _other_values(rule, observation)
                if change == "cleared":
                    member.recover(time, observation.value)
            if condition.is_idle:
                del self.conditions[key]

    def describe(
        self, series: Collection[str], explain: Callable[[str], tuple[str, dict[str, Any]]]
    ) -> None:
        """Explain the newest points of some series in the alerts they are active in.

        Args:
            series: Their ids.
            explain: The sentence and the detail of a series' newest point.
        """
        explained: dict[str, tuple[str, dict[str, Any]]] = {}
        for alert in self.alerts.values():
            for member in alert.members:
                if member.is_active and member.series in series:
                    if member.series not in explained:
                        explained[member.series] = explain(member.series)
                    member.sentence, member.detail = explained[member.series]

    def advance(
        self, now: datetime, rules: Rules, windows: Windows | None = None
    ) -> tuple[list[Notice], float | None]:
        """Decide who is told what by now.

        Args:
            now: The time by the clock on the wall.
            rules: The tenant's rules by name.
            windows: The tenant's maintenance windows by name.

        Returns:
            The notices that are due, and when to call again (epoch seconds) if nothing
            else happens; None if there is nothing to wait for.
        """
        self._clear_orphans(rules, now)
        checks = self._check_silence(rules, now.timestamp())
        active_windows = {
            name: window for name, window in (windows or {}).items() if window.is_active(now)
        }
        decider = NoticeDecider(now.timestamp(), rules, active_windows, self._is_recovering)
        unresolved = self.open_alerts()
        decider.add_inhibitors(unresolved)
        for alert in self.alerts.values():
            decider.decide(alert)
        decider.due += checks
        if unresolved:
            decider.due.append(now.timestamp() + CHECK_EVERY)
        return decider.notices, min(decider.due, default=None)

    def acknowledge(self, alert_id: str, user: str | None, now: datetime) -> bool:
        """Acknowledge an alert, which stops its reminders and escalation.

        What fires in it later is not acknowledged.

        Returns:
            Whether it was not resolved yet.

        Raises:
            KeyError: There is no such alert.
        """
        alert = self.alerts[alert_id]
        if alert.state == "open":
            for member in alert.active_members:
                member.is_acknowledged = True
            alert.acknowledged, alert.acknowledged_by = now.timestamp(), user
            alert.announced, alert.escalated = {}, {}
        return alert.state != "resolved"

    def resolve(self, alert_id: str, now: datetime) -> None:
        """Resolve an alert by hand; a rule that is still met opens it again.

        Raises:
            KeyError: There is no such alert.
        """
        alert = self.alerts[alert_id]
        alert.announced, alert.escalated = {}, {}
        for member in alert.active_members:
            member.cleared = now.timestamp()
            self.conditions.pop(f"{member.rule}/{member.series}", None)

    def remove_old(self, now: datetime) -> list[Alert]:
        """Remove and return alerts that were resolved too long ago to open again."""
        limit = now.timestamp() - RESOLVED_RETENTION.total_seconds()
        old = [a for a in self.alerts.values() if a.resolved is not None and a.resolved < limit]
        for alert in old:
            del self.alerts[alert.id]
            for member in alert.members:
                key = member.rule, member.series
                if self._members[key][0] is alert:
                    del self._members[key]
                self._groups[member.group] = [
                    other for other in self._groups.get(member.group, ()) if other is not alert
                ]
                if not self._groups[member.group]:
                    del self._groups[member.group]
        return old

    def open_alerts(self) -> list[Alert]:
        """Alerts that are not resolved, acknowledged ones included."""
        return [alert for alert in self.alerts.values() if alert.active_members]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON; `from_dict` is the inverse."""
        return {
            "alerts": [asdict(alert) for alert in self.alerts.values()],
            "conditions": {key: asdict(condition) for key, condition in self.conditions.items()},
            "rhythms": {series: asdict(rhythm) for series, rhythm in self.rhythms.items()},
        }

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "AlertManager":
        """The manager that `to_dict` was called on."""
        alerts = [Alert.from_dict(alert) for alert in record.get("alerts", ())]
        conditions = {key: Condition(**c) for key, c in record.get("conditions", {}).items()}
        rhythms = {key: Rhythm(**rhythm) for key, rhythm in record.get("rhythms", {}).items()}
        for rhythm in rhythms.values():
            rhythm.gaps = [(start, end) for start, end in rhythm.gaps]
        return AlertManager({alert.id: alert for alert in alerts}, conditions, rhythms)

    def _index(self, alert: Alert, member: Member) -> None:
        self._members[member.rule, member.series] = alert, member
        of_group = self._groups.setdefault(member.group, [])
        if not any(other is alert for other in of_group):
            of_group.append(alert)

    def _active_member(self, rule: str, series: str) -> Member | None:
        found = self._members.get((rule, series))
        return found[1] if found and found[1].is_active else None

    def _is_recovering(self, member: Member) -> bool:
        """Whether its last points have recovered, so that it is no news by now."""
        condition = self.conditions.get(f"{member.rule}/{member.series}")
        return condition is not None and condition.is_firing and condition.recovered > 0

    def _hear(self, observation: Observation, rules: Rules, now: float) -> None:
        """Note when a point came, if a rule watches for silence; data is back."""
        series, time = observation.series, observation.time.timestamp()
        for name, rule in rules.items():
            member = self._active_member(name, series)
            if member is not None and member.condition == NO_DATA:
                member.recover(time, observation.value)
            if rule.no_data != "keep" and rule.applies_to(observation.metric, observation.labels):
                if series not in self.rhythms:
                    labels = dict(observation.labels)
                    self.rhythms[series] = Rhythm(observation.metric, labels, time, now, now)
                self.rhythms[series].hear(time, now)

    def _check_silence(self, rules: Rules, now: float) -> list[float]:
        """Let rules act on series that stopped; when to check again."""
        checks: list[float] = []
        for series, rhythm in list(self.rhythms.items()):
            watching = {
                name: rule
                for name, rule in rules.items()
                if rule.no_data != "keep" and rule.applies_to(rhythm.metric, rhythm.labels)
            }
            if not watching or now - rhythm.seen > MAX_SILENCE.total_seconds():
                del self.rhythms[series]
            elif rhythm.is_overdue(now) and not rhythm.is_silent:
                rhythm.is_silent = True
                for name, rule in watching.items():
                    self._fall_silent(name, rule, series, rhythm, now)
            elif rhythm.patience is not None and not rhythm.is_silent:
                due = rhythm.seen + rhythm.patience
                checks.append(due + 0.001 if due >= now else now + CHECK_EVERY)
        return checks

    def _fall_silent(self, name: str, rule: Rule, series: str, rhythm: Rhythm, now: float) -> None:
        active = self._active_member(name, series)
        if rule.no_data == "resolve" and active is not None:
            active.cleared = now
            self.conditions.pop(f"{name}/{series}", None)
        elif rule.no_data == "alert" and active is None:
            usual = f"usually every {format_number(rhythm.interval or 0.0)} s"
            last = f"{to_datetime(rhythm.time):%Y-%m-%d %H:%M} UTC"
            member = Member(
                rule=name,
                rule_name=rule.name,
                condition=NO_DATA,
                limit=None,
                series=series,
                metric=rhythm.metric,
                labels=rhythm.labels,
                group=rule.group(name, rhythm.metric, rhythm.labels),
                priority=rule.priority,
                since=rhythm.seen,
                fired=now,
                first_value=None,
                time=rhythm.time,
                value=None,
                news=now,
                sentence=f"{rhythm.metric} has no data since {last} ({usual}).",
            )
            self._fire(member, None)

    def _clear_orphans(self, rules: Rules, now: datetime) -> None:
        """Clear members whose rule is gone: no later point can clear them."""
        for alert in self.alerts.values():
            for member in alert.active_members:
                rule = rules.get(member.rule)
                applies = rule is not None and rule.applies_to(member.metric, member.labels)
                if rule is not None and member.condition == NO_DATA:
                    applies = applies and rule.no_data == "alert"
                if not applies:
                    member.cleared = now.timestamp()
                    self.conditions.pop(f"{member.rule}/{member.series}", None)

    def _fire(self, member: Member, correlation: Correlation | None) -> None:
        """Add what fired to the alert it belongs to, or to a new one."""
        if self._fire_again(member):
            return
        alert = self._find_group(member) or self._find_related(member, correlation)
        if alert is None:
            identity = f"{member.rule}/{member.series}/{member.fired}"
            alert_id = blake2b(identity.encode(), digest_size=8).hexdigest()
            alert = self.alerts[alert_id] = Alert(alert_id, member.fired, member.fired, [])
        key = member.rule, member.series
        alert.members = [m for m in alert.members if (m.rule, m.series) != key] + [member]
        alert.updated = max(alert.updated, member.fired)
        alert.opened = min(alert.opened, member.fired)
        self._index(alert, member)

    def _fire_again(self, member: Member) -> bool:
        """Let a rule fire on a series that is, or recently was, in an alert.

        A resolved alert opens again.
        """
        alert, old = self._members.get((member.rule, member.series), (None, None))
        if alert is None or old is None:
            return False
        is_news = member.fired - (old.cleared or member.fired) > REOPEN_WITHIN.total_seconds()
        if not alert.active_members:
            if member.fired - (alert.resolved or 0.0) > REOPEN_WITHIN.total_seconds():
                return False
            alert.reopened += 1
        if not is_news:
            member.told, member.is_acknowledged = old.told, old.is_acknowledged
        alert.members[alert.members.index(old)] = member
        alert.updated = max(alert.updated, member.fired)
        self._index(alert, member)
        return True

    def _find_group(self, member: Member) -> Alert | None:
        """The newest open alert of a new member's group that did not begin after it."""
        begun = [
            alert
            for alert in self._groups.get(member.group, ())
            if alert.active_members and alert.opened - member.fired <= JOIN_WITHIN.total_seconds()
        ]
        return max(begun, key=lambda alert: alert.opened, default=None)

    def _find_related(self, member: Member, correlation: Correlation | None) -> Alert | None:
        """The open alert that a new member is most strongly related to, if any."""
        best: tuple[float, Alert] | None = None
        for alert in self.open_alerts():
            active = alert.active_members
            has_series = any(m.series == member.series for m in active)
            age = max(member.fired - alert.updated, alert.opened - member.fired)
            if not has_series and age > JOIN_WITHIN.total_seconds():
                continue  # of a replay, too
            if _contradicts(member.labels, active):
                continue
            strength = max(_relation(member, m, correlation) for m in active)
            if strength > 0 and (best is None or strength > best[0]):
                best = strength, alert
        return best[1] if best else None


def _member(
    name: str,
    rule: Rule,
    observation: Observation,
    condition: Condition,
    now: datetime,
    explain: Explain | None,
) -> Member:
    time = observation.time.timestamp()
    sentence, detail = explain() if explain else ("", {})
    return Member(
        rule=name,
        rule_name=rule.name,
        condition=rule.condition,
        limit=rule.limit,
        series=observation.series,
        metric=observation.metric,
        labels=dict(observation.labels),
        group=rule.group(name, observation.metric, observation.labels),
        priority=rule.priority,
        since=condition.since or time,
        fired=time,
        first_value=observation.value,
        time=time,
        value=observation.value,
        news=now.timestamp(),
        others=_other_values(rule, observation),
        sentence=sentence,
        detail=detail,
    )


def _other_values(rule: Rule, observation: Observation) -> dict[str, float]:
    names, others = rule.other_metrics(observation.metric), observation.others
    return {name: others[name].value for name in names if name in others}


def _contradicts(labels: Labels, members: list[Member]) -> bool:
    """Whether a label has another value than in all the members that have it."""
    known: dict[str, set[str]] = {}
    for member in members:
        for key, value in member.labels.items():
            known.setdefault(key, set()).add(value)
    return any(key in known and value not in known[key] for key, value in labels.items())


def _relation(a: Member, b: Member, correlation: Correlation | None) -> float:
    """How strongly two members are related, in [0, 1]."""
    if a.series == b.series:
        return 1.0
    if not compatible_labels(a.labels, b.labels):
        return 0.0
    strength = correlation(a.series, b.series) if correlation else None
    if strength is None:
        return UNKNOWN_CORRELATION if a.labels == b.labels else 0.0
    return abs(strength) if abs(strength) >= MIN_CORRELATION else 0.0
