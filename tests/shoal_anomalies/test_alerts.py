import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from shoal_anomalies.alert_manager import AlertManager
from shoal_anomalies.jobs import count_open_alerts
from shoal_anomalies.maintenance import MaintenanceWindow, Match
from shoal_anomalies.points import series_id
from shoal_anomalies.rules import DEFAULT_RULES, Observation, Rule

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
PAGE = Rule(
    priority="P1",
    condition="above",
    limit=0.1,
    match=Match(metric="error_rate"),
    channels=("page",),
    escalation=("boss",),
    escalate_after=30,
    renotify_after=15,
    recovery=2,
)
RULES = {"errors": PAGE, "unusual": Rule(priority="P3", condition="unusual", recovery=2)}


def observation(minute, value, metric="error_rate", *, labels=None, alarm=False, expected=None):
    labels = labels or {}
    return Observation(
        metric,
        labels,
        series_id(metric, labels),
        START + timedelta(minutes=minute),
        value,
        expected,
        alarm,
        not alarm,
    )


def play(manager, values, rules=RULES, windows=None, start=0, **rest):
    notices = []
    for minute, value in enumerate(values, start):
        notices += manager.observe(observation(minute, value, **rest), rules, windows)
        notices += manager.advance(START + timedelta(minutes=minute), rules, windows)
    return [n.reason for n in notices]


def test_an_incident_sends_one_notice_and_one_resolution():
    manager = AlertManager()
    assert play(manager, [0.01, 0.5, 0.5, 0.5, 0.01, 0.01, 0.01]) == ["opened", "resolved"]
    assert [a.state for a in manager.alerts.values()] == ["resolved"]


def test_a_value_at_the_limit_does_not_flap():
    rule = PAGE.model_copy(update={"renotify_after": None, "escalation": ()})
    assert play(AlertManager(), [0.11, 0.098, 0.11, 0.097, 0.11, 0.099] * 5, {"errors": rule}) == [
        "opened"
    ]


def test_a_flapping_series_is_one_alert_with_few_notices():
    rule = PAGE.model_copy(update={"renotify_after": None, "escalation": (), "recovery": 1})
    manager = AlertManager()
    reasons = play(manager, [0.5, 0.0, 0.5, 0.0, 0.0] * 12, {"errors": rule})
    assert len(manager.alerts) == 1
    assert reasons.count("opened") == 1 and reasons.count("reopened") <= 4


def test_a_rule_can_require_several_consecutive_points():
    rule = PAGE.model_copy(update={"points": 3})
    assert play(AlertManager(), [0.5, 0.5, 0.0, 0.5, 0.5], {"errors": rule}) == []
    assert play(AlertManager(), [0.5, 0.5, 0.5], {"errors": rule}) == ["opened"]


def test_an_unacknowledged_alert_sends_reminders_and_one_escalation():
    manager = AlertManager()
    reasons = play(manager, [0.5] * 46)
    assert reasons == ["opened", "reminder", "escalated", "reminder", "reminder"]
    (alert,) = manager.alerts.values()
    assert alert.told == ["page", "boss"]


def test_acknowledging_stops_reminders_and_escalation():
    manager = AlertManager()
    play(manager, [0.5] * 5)
    (alert,) = manager.alerts.values()
    assert manager.acknowledge(alert.id, "ana", START)
    assert play(manager, [0.5] * 60, start=5) == []
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "ana")
    assert play(manager, [0.0] * 2, start=65) == ["resolved"]
    assert not manager.acknowledge(alert.id, "bo", START)


def test_error_rate_and_latency_rising_together_are_one_alert():
    rules = {
        **RULES,
        "slow": Rule(
            priority="P2",
            condition="above",
            limit=1.0,
            match=Match(metric="latency"),
            channels=("mail",),
        ),
    }
    manager = AlertManager()
    notices = manager.observe(observation(0, 2.0, "latency"), rules, correlation=lambda a, b: 0.9)
    notices += manager.observe(observation(1, 0.5), rules, correlation=lambda a, b: 0.9)
    (alert,) = manager.alerts.values()
    assert {m.metric for m in alert.members} == {"latency", "error_rate"}
    assert alert.priority == "P1"
    assert [(n.reason, n.channel) for n in notices] == [
        ("opened", "mail"),
        ("worsened", "mail"),
        ("worsened", "page"),
    ]


@pytest.mark.parametrize(
    ("minute", "labels", "correlation"),
    [(20, {}, 0.9), (1, {"region": "us"}, 0.9), (1, {}, 0.1)],
    ids=["far in time", "another label", "uncorrelated"],
)
def test_unrelated_series_open_separate_alerts(minute, labels, correlation):
    rules = {"high": Rule(priority="P2", condition="above", limit=0.1)}
    manager = AlertManager()
    manager.observe(observation(0, 2.0, "a", labels={"region": "eu"}), rules)
    manager.observe(
        observation(minute, 2.0, "b", labels=labels or {"region": "eu"}),
        rules,
        correlation=lambda a, b: correlation,
    )
    assert len(manager.alerts) == 2


def test_another_rule_on_the_same_series_joins_its_alert():
    manager = AlertManager()
    manager.observe(observation(0, 0.05, alarm=True), RULES)
    manager.observe(observation(60, 0.5), RULES)
    (alert,) = manager.alerts.values()
    assert alert.priority == "P1" and {m.rule for m in alert.members} == {"unusual", "errors"}


def test_an_alert_resolves_when_all_its_members_have_recovered():
    rules = {
        "high": Rule(priority="P2", condition="above", limit=0.1, channels=("mail",), recovery=1)
    }
    manager = AlertManager()
    manager.observe(observation(0, 2.0, "a"), rules)
    manager.observe(observation(0, 2.0, "b"), rules)
    assert manager.observe(observation(1, 0.0, "a"), rules) == []
    assert [n.reason for n in manager.observe(observation(1, 0.0, "b"), rules)] == ["resolved"]


def test_an_open_p1_silences_p3s_with_compatible_labels():
    rules = {**RULES, "unusual": Rule(priority="P3", condition="unusual", channels=("chat",))}
    manager = AlertManager()
    manager.observe(observation(0, 0.5, labels={"service": "shop"}), rules)
    assert (
        manager.observe(observation(30, 1.0, "cpu", labels={"service": "shop"}, alarm=True), rules)
        == []
    )
    inhibited = next(a for a in manager.alerts.values() if a.priority == "P3")
    assert inhibited.inhibited_by == next(
        a.id for a in manager.alerts.values() if a.priority == "P1"
    )
    notices = manager.observe(
        observation(30, 1.0, "cpu", labels={"service": "bank"}, alarm=True), rules
    )
    assert [n.channel for n in notices] == ["chat"]


def test_an_open_p1_silences_reminders_of_earlier_p3s():
    rules = {
        "unusual": Rule(priority="P3", condition="unusual", channels=("chat",), renotify_after=10),
        "errors": PAGE,
    }
    manager = AlertManager()
    manager.observe(observation(0, 1.0, "cpu", alarm=True), rules)
    manager.observe(observation(12, 0.5), rules)
    notices = manager.advance(START + timedelta(minutes=13), rules)
    assert len(manager.alerts) == 2 and notices == []


def maintenance(start, end, **match):
    times = {"from": START + timedelta(minutes=start), "to": START + timedelta(minutes=end)}
    return {"upgrade": MaintenanceWindow.model_validate({**times, "match": match})}


def test_a_suppressed_alert_names_the_maintenance_window():
    manager = AlertManager()
    assert play(manager, [0.5] * 3 + [0.0] * 5, windows=maintenance(0, 30)) == []
    (alert,) = manager.alerts.values()
    assert (alert.suppressed_by, alert.state) == (["upgrade"], "resolved")


def test_an_alert_still_active_after_maintenance_notifies_then():
    manager = AlertManager()
    assert play(manager, [0.5] * 20, windows=maintenance(0, 20)) == []
    assert play(manager, [0.5], windows=maintenance(0, 20), start=20) == ["opened"]


def test_an_alert_recovering_after_maintenance_notifies_nobody():
    manager, windows = AlertManager(), maintenance(0, 20)
    assert play(manager, [0.5] * 19 + [0.0], windows=windows) == []
    assert play(manager, [0.0, 0.0], windows=windows, start=20) == []


def test_reminders_and_escalation_wait_for_the_end_of_maintenance():
    manager = AlertManager()
    assert play(manager, [0.5] * 50, windows=maintenance(5, 50)) == ["opened"]
    (alert,) = manager.alerts.values()
    assert alert.suppressed_by == ["upgrade"]
    assert play(manager, [0.5], windows=maintenance(5, 50), start=50) == ["escalated", "reminder"]
    assert alert.suppressed_by == []


def test_reminders_follow_the_rules_of_members_outside_maintenance():
    rules = {
        **RULES,
        "slow": Rule(
            priority="P2",
            condition="above",
            limit=1,
            match=Match(metric="latency"),
            channels=("mail",),
        ),
    }
    manager, windows = AlertManager(), maintenance(2, 60, metric="error_rate")
    manager.observe(observation(0, 0.5), rules, windows)
    manager.observe(observation(1, 2.0, "latency"), rules, windows)
    assert len(manager.alerts) == 1
    assert manager.advance(START + timedelta(minutes=40), rules, windows) == []


def test_an_alert_worsened_in_maintenance_notifies_after_it():
    rules = {**RULES, "unusual": Rule(priority="P3", condition="unusual", channels=("chat",))}
    manager, windows = AlertManager(), maintenance(1, 10)
    assert [
        n.reason for n in manager.observe(observation(0, 0.05, alarm=True), rules, windows)
    ] == ["opened"]
    assert play(manager, [0.5] * 9, rules, windows, start=1, alarm=True) == []
    assert {a.priority for a in manager.alerts.values()} == {"P1"}
    notices = manager.advance(START + timedelta(minutes=10), rules, windows)
    assert [(n.reason, n.channel) for n in notices] == [("worsened", "chat"), ("worsened", "page")]
    assert manager.advance(START + timedelta(minutes=11), rules, windows) == []


@pytest.mark.parametrize(
    ("after", "reasons"), [(0.5, ["reopened"]), (0.0, [])], ids=["still active", "recovered"]
)
def test_an_alert_reopened_in_maintenance_notifies_after_it_if_active(after, reasons):
    rule = PAGE.model_copy(update={"renotify_after": None, "escalation": (), "recovery": 1})
    rules, manager, windows = {"errors": rule}, AlertManager(), maintenance(3, 10)
    assert play(manager, [0.5, 0.0], rules, windows) == ["opened", "resolved"]
    assert play(manager, [0.5] * 7, rules, windows, start=3) == []
    assert play(manager, [after] * 5, rules, windows, start=10) == reasons
    copy = AlertManager.from_dict(json.loads(json.dumps(manager.to_dict())))
    assert copy == manager


def test_a_suppressed_alert_counts_again_once_it_notifies():
    manager = AlertManager()
    play(manager, [0.5] * 5, windows=maintenance(0, 5))
    assert count_open_alerts(manager.open_alerts())["P1"] == 0
    assert play(manager, [0.5], windows=maintenance(0, 5), start=5) == ["opened"]
    assert count_open_alerts(manager.open_alerts())["P1"] == 1


def test_maintenance_of_another_metric_or_label_suppresses_nothing():
    assert play(AlertManager(), [0.5], windows=maintenance(0, 20, metric="latency")) == ["opened"]
    assert play(AlertManager(), [0.5], windows=maintenance(0, 20, labels={"region": "eu"})) == [
        "opened"
    ]


def test_deciding_again_after_a_crash_gives_the_same_keys():
    manager = AlertManager()
    before = json.dumps(manager.to_dict())
    first = manager.observe(observation(0, 0.5), RULES)
    second = AlertManager.from_dict(json.loads(before)).observe(observation(0, 0.5), RULES)
    assert [n.key for n in first] == [n.key for n in second] != []


def test_alerts_survive_a_round_trip_through_json():
    manager = AlertManager()
    play(manager, [0.5] * 20)
    copy = AlertManager.from_dict(json.loads(json.dumps(manager.to_dict())))
    assert copy == manager
    assert play(copy, [0.0] * 2, start=20) == ["resolved"]


def test_resolving_by_hand_notifies_and_resets_the_conditions():
    manager = AlertManager()
    play(manager, [0.5] * 2)
    (alert,) = manager.alerts.values()
    assert [n.reason for n in manager.resolve(alert.id, START + timedelta(minutes=2))] == [
        "resolved"
    ]
    assert play(manager, [0.5], start=3) == ["reopened"]


def test_deleting_a_rule_resolves_its_alerts():
    manager = AlertManager()
    play(manager, [0.5])
    manager.advance(START + timedelta(minutes=1), {})
    assert [a.state for a in manager.alerts.values()] == ["resolved"]


@pytest.mark.parametrize(
    "change",
    [{"enabled": False}, {"match": Match(metric="nothing")}],
    ids=["disabled", "narrowed"],
)
def test_a_rule_that_no_longer_applies_resolves_its_alerts(change):
    manager = AlertManager()
    play(manager, [0.5])
    rules = {"errors": PAGE.model_copy(update=change)}
    assert [n.reason for n in manager.advance(START + timedelta(minutes=1), rules)] == ["resolved"]
    assert not manager.conditions


def test_resolved_alerts_are_removed_once_they_cannot_reopen():
    manager = AlertManager()
    play(manager, [0.5, 0.0, 0.0])
    assert manager.remove_old(START + timedelta(minutes=40)) == []
    assert len(manager.remove_old(START + timedelta(hours=3))) == 1
    assert not manager.alerts


def test_old_points_notify_only_if_the_alert_stays_active():
    manager = AlertManager()
    assert manager.observe(observation(0, 0.5), RULES, notify=False) == []
    assert [n.reason for n in manager.advance(START + timedelta(hours=5), RULES)] == ["opened"]


def test_a_drop_is_measured_against_the_expected_value():
    rule = DEFAULT_RULES["usage-drop"]
    assert rule.is_met(observation(0, 49, "active_users", expected=100.0))
    assert not rule.is_met(observation(0, 51, "active_users", expected=100.0))
    assert not rule.is_met(observation(0, 0, "active_users", expected=None))
    assert not rule.is_met(observation(0, 0, "active_users", expected=0.0))


@pytest.mark.parametrize(
    "record",
    [
        {"priority": "P1", "condition": "above"},
        {"priority": "P1", "condition": "unusual", "limit": 1},
        {"priority": "P9", "condition": "unusual"},
        {"priority": "P1", "condition": "drop", "limit": 1.5},
        {"priority": "P1", "condition": "above", "limit": float("nan")},
    ],
)
def test_an_invalid_rule_is_rejected(record):
    with pytest.raises(ValidationError):
        Rule.model_validate(record)


def test_a_rule_that_matches_nothing_does_nothing():
    assert (
        play(
            AlertManager(),
            [0.5] * 3,
            {"none": PAGE.model_copy(update={"match": Match(metric="nowhere")})},
        )
        == []
    )
