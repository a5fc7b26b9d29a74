"""No notice is lost and none is sent twice, whatever happens in whatever order.

A model of what each channel must and may have been told is held against the alert
manager. It knows rules, points, windows and people, not how notices are decided.
"""

import copy
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from shoal_anomalies.alert_manager import AlertManager
from shoal_anomalies.alerts import Alert, Notice
from shoal_anomalies.maintenance import MaintenanceWindow, Match
from shoal_anomalies.points import series_id
from shoal_anomalies.rules import Observation, Rule

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
FLAP = 30 * 60.0
RULES = {
    "errors": Rule(
        priority="P1",
        condition="above",
        limit=0,
        match=Match(metric="errors"),
        channels=("page",),
        escalation=("boss", "page"),
        escalate_after=30,
        renotify_after=15,
        recovery=1,
    ),
    "slow": Rule(
        priority="P2",
        condition="above",
        limit=0,
        match=Match(metric="latency"),
        channels=("mail", "page"),
        group_wait=1,
        group_interval=10,
        renotify_after=60,
        recovery=1,
    ),
    "odd": Rule(
        priority="P3",
        condition="above",
        limit=0,
        match=Match(metric="*"),
        channels=("chat",),
        renotify_after=20,
        recovery=2,
    ),
}
METRICS = ("errors", "latency")


@dataclass
class Belief:
    """What a channel believes of an alert."""

    is_open: bool = False
    known: set[tuple[str, str]] = field(default_factory=set)
    priority: str = "P9"
    last: float = 0.0


class Model:
    """The alert manager, and beside it what happened and what channels believe."""

    def __init__(self) -> None:
        self.manager = AlertManager()
        self.now = START
        self.muted: set[str] = set()  # metrics in maintenance
        self.beliefs: dict[tuple[str, str], Belief] = {}  # by alert and channel
        self.fired: dict[tuple[str, str], float] = {}  # wall time, by rule and series
        self.cleared: dict[tuple[str, str], float] = {}
        self.acknowledged: set[tuple[str, str]] = set()
        self.escalated: set[tuple[str, str, str]] = set()  # alert, rule, channel
        self.announced: dict[str, dict[str, float]] = {}  # by alert and rule
        self.keys: set[str] = set()

    # What happens

    def wait(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)
        self.tell()

    def see(self, metric: str, host: str, value: int) -> None:
        labels = {"host": host}
        before = self.active()
        name = series_id(metric, labels)
        seen = Observation(metric, labels, name, self.now, float(value))
        self.manager.observe(seen, RULES, self.now)
        after = self.active()
        for member in after - before:
            self.fired[member] = self.now.timestamp()
            quiet = self.now.timestamp() - self.cleared.get(member, self.now.timestamp())
            if quiet > FLAP:
                self.forget(member)
        for member in before - after:
            self.cleared[member] = self.now.timestamp()

    def mute(self, metric: str) -> None:
        """Begin or end maintenance."""
        self.muted ^= {metric}

    def acknowledge(self, number: int) -> None:
        if alerts := [a for a in self.manager.open_alerts() if a.state == "open"]:
            alert = alerts[number % len(alerts)]
            self.manager.acknowledge(alert.id, "ana", self.now)
            self.acknowledged |= {(m.rule, m.series) for m in alert.active_members}
            self.reset(alert.id)

    def resolve(self, number: int) -> None:
        if alerts := self.manager.open_alerts():
            alert = alerts[number % len(alerts)]
            for member in alert.active_members:
                self.cleared[member.rule, member.series] = self.now.timestamp()
            self.manager.resolve(alert.id, self.now)
            self.reset(alert.id)

    def restart(self) -> None:
        record = json.loads(json.dumps(self.manager.to_dict()))
        assert AlertManager.from_dict(record) == self.manager
        self.manager = AlertManager.from_dict(record)

    # What channels are told

    def tell(self) -> None:
        facts = copy.deepcopy(self.manager.alerts)
        notices, due = self.manager.advance(self.now, RULES, self.windows())
        for notice in notices:
            assert notice.key not in self.keys, "told twice"
            self.keys.add(notice.key)
            self.check_cause(facts[notice.alert], notice)
            self.hear(facts[notice.alert], notice)
        for alert in facts.values():
            for member in self.news(alert):
                if self.now.timestamp() - self.fired[member] >= wait(member):
                    announced = self.announced.setdefault(alert.id, {})
                    announced.setdefault(member[0], self.now.timestamp())
            self.check_nothing_is_lost(alert)
        assert self.manager.advance(self.now, RULES, self.windows())[0] == []
        if due is not None:
            assert due > self.now.timestamp()
            early = copy.deepcopy(self.manager)
            soon = datetime.fromtimestamp(due - 0.001, UTC)
            assert early.advance(soon, RULES, self.windows())[0] == [], "due earlier than told"
        open_alerts = [alert for alert in facts.values() if alert.active_members]
        open_members = {(m.rule, m.series) for alert in open_alerts for m in alert.members}
        for alert in facts.values():
            if not alert.active_members:
                self.reset(alert.id)
                members = {(m.rule, m.series) for m in alert.members}
                self.acknowledged -= members - open_members
        self.manager.remove_old(self.now)

    def check_cause(self, alert: Alert, notice: Notice) -> None:
        """There is a reason for every notice."""
        belief = self.beliefs.get((alert.id, notice.channel))
        news = self.news(alert)
        routed = [m for m in news if notice.channel in RULES[m[0]].channels]
        now = self.now.timestamp()
        if notice.reason == "opened":
            assert belief is None and any(now - self.fired[m] >= wait(m) for m in routed)
        elif notice.reason == "escalated":
            assert self.overdue(alert, notice.channel)
        else:
            assert belief is not None
            assert belief.is_open == (notice.reason != "reopened")
            assert bool(alert.active_members) == (notice.reason != "resolved")
        if belief and notice.reason == "updated":
            assert {m for m in routed if m not in belief.known}
        if belief and notice.reason == "worsened":
            assert min(RULES[m[0]].priority for m in news) < belief.priority
        if belief and notice.reason == "reminder":
            assert now - belief.last >= min(self.intervals(alert, notice.channel, belief))

    def hear(self, alert: Alert, notice: Notice) -> None:
        belief = self.beliefs.setdefault((alert.id, notice.channel), Belief())
        if notice.reason in ("opened", "reopened"):
            belief.known, belief.priority = set(), "P9"
        news = {(rule, series) for rule, _, series in (n.partition("/") for n in notice.news)}
        assert news <= {(m.rule, m.series) for m in alert.active_members}
        belief.known |= news
        shown = [RULES[name].priority for name, _ in [*news, *self.news(alert)]]
        belief.priority = min([belief.priority, *shown])
        if notice.reason == "escalated":
            self.escalated |= {
                (alert.id, name, notice.channel) for name in self.overdue(alert, notice.channel)
            }
        belief.is_open = notice.reason != "resolved"
        belief.last = self.now.timestamp()

    def check_nothing_is_lost(self, alert: Alert) -> None:
        now = self.now.timestamp()
        for (name, channel), belief in self.beliefs.items():
            if name == alert.id and belief.is_open:
                assert alert.active_members, "the resolution was not told"
                waits = self.intervals(alert, channel, belief)
                assert now - belief.last < min(waits, default=1e9), "no reminder"
        for member in self.news(alert):
            config = RULES[member[0]]
            for channel in config.channels:
                belief = self.beliefs.get((alert.id, channel), Belief())
                is_known = belief.is_open and member in belief.known
                is_known_rule = member[0] in {name for name, _ in belief.known}
                pause = 60 * config.group_interval if belief.is_open and is_known_rule else 0
                is_waiting = now < max(self.fired[member] + wait(member), belief.last + pause)
                assert is_known or is_waiting, "news was not told"
            for channel in config.escalation:
                assert not self.overdue(alert, channel), "no escalation"

    # Facts

    def active(self) -> set[tuple[str, str]]:
        return {(m.rule, m.series) for a in self.manager.alerts.values() for m in a.active_members}

    def windows(self) -> dict[str, MaintenanceWindow]:
        times = {"from": START - timedelta(days=1), "to": START + timedelta(days=99)}
        return {
            metric: MaintenanceWindow.model_validate({**times, "match": {"metric": metric}})
            for metric in self.muted
        }

    def unacknowledged(self, alert: Alert) -> list[tuple[str, str]]:
        """The active members that may be told of."""
        urgent = [
            m
            for other in self.manager.alerts.values()
            for m in other.active_members
            if m.priority == "P1" and (m.told or m.metric not in self.muted)
        ]
        return [
            (m.rule, m.series)
            for m in alert.active_members
            if m.metric not in self.muted
            and (m.rule, m.series) not in self.acknowledged
            and not (m.priority == "P3" and any(m.labels == p1.labels for p1 in urgent))
        ]

    def news(self, alert: Alert) -> list[tuple[str, str]]:
        conditions = self.manager.conditions
        return [m for m in self.unacknowledged(alert) if not conditions["/".join(m)].recovered]

    def intervals(self, alert: Alert, channel: str, belief: Belief) -> list[float]:
        return [
            60 * (RULES[m[0]].renotify_after or 1e9)
            for m in self.unacknowledged(alert)
            if channel in RULES[m[0]].channels and m in belief.known
        ]

    def overdue(self, alert: Alert, channel: str) -> set[str]:
        """The rules that nobody acknowledged in half an hour after the first notice."""
        rules = set()
        for member in self.unacknowledged(alert):
            since = self.announced.get(alert.id, {}).get(member[0], math.inf)
            if channel in escalation(member) and self.now.timestamp() - since >= 1800:
                rules.add(member[0])
        return {name for name in rules if (alert.id, name, channel) not in self.escalated}

    def forget(self, member: tuple[str, str]) -> None:
        """What fires again after a long time is news."""
        self.acknowledged.discard(member)
        for belief in self.beliefs.values():
            belief.known.discard(member)

    def reset(self, alert: str) -> None:
        self.escalated = {item for item in self.escalated if item[0] != alert}
        self.announced.pop(alert, None)

    def check_states(self) -> None:
        for alert in self.manager.alerts.values():
            members = {(m.rule, m.series) for m in alert.active_members}
            assert len({(m.rule, m.series) for m in alert.members}) == len(alert.members)
            expected = "open" if members - self.acknowledged else "acknowledged"
            assert alert.state == (expected if members else "resolved")


def wait(member: tuple[str, str]) -> float:
    return {"errors": 0.0, "slow": 60.0, "odd": 30.0}[member[0]]


def escalation(member: tuple[str, str]) -> tuple[str, ...]:
    return RULES[member[0]].escalation


waits = st.tuples(st.just("wait"), st.sampled_from([0.4, 1, 1, 4, 6, 6, 16, 31]))
points = st.tuples(
    st.just("see"), st.sampled_from(METRICS), st.sampled_from("ab"), st.sampled_from([0, 1, 1])
)
rare = st.one_of(
    st.tuples(st.just("mute"), st.sampled_from(METRICS)),
    st.tuples(st.sampled_from(["acknowledge", "resolve"]), st.integers(0, 3)),
    st.tuples(st.just("restart")),
)
actions = st.lists(st.one_of(waits, waits, points, points, rare), min_size=40, max_size=80)


@settings(max_examples=100, deadline=None)
@given(actions)
def test_no_notice_is_lost_and_none_is_sent_twice(happening: list[Any]) -> None:
    model = Model()
    for action, *arguments in happening:
        getattr(model, action)(*arguments)
        model.check_states()
