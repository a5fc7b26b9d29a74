import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    group_wait=0,
)
UNUSUAL = Rule(priority="P3", condition="unusual", recovery=2, channels=("chat",), group_wait=0)
SLOW = Rule(
    priority="P2",
    condition="above",
    limit=1.0,
    match=Match(metric="latency"),
    channels=("mail",),
    group_wait=0,
)
RULES = {"errors": PAGE, "unusual": UNUSUAL.model_copy(update={"channels": ()})}


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


def at(minute):
    return START + timedelta(minutes=minute)


def tell(manager, minute, rules=RULES, windows=None):
    """The notices that are due at a minute by the clock on the wall."""
    return [(n.reason, n.channel) for n in manager.advance(at(minute), rules, windows)[0]]


def see(manager, minute, value, metric="error_rate", rules=RULES, correlation=None, **rest):
    """Let a point arrive in the minute that it is of."""
    seen = observation(minute, value, metric, **rest)
    manager.observe(seen, rules, at(minute), correlation=correlation)


def play(manager, values, rules=RULES, windows=None, start=0, **rest):
    """A point a minute; the reasons of all notices."""
    reasons = []
    for minute, value in enumerate(values, start):
        see(manager, minute, value, rules=rules, **rest)
        reasons += [reason for reason, _ in tell(manager, minute, rules, windows)]
    return reasons


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


@pytest.mark.parametrize(
    ("step", "minutes", "points", "fires"),
    [(1, 5, 1, 5), (1, 0, 3, 2), (1, 5, 8, 7), (0.5, 5, 3, 5), (10, 5, 1, 10), (2, 0, 1, 0)],
)
def test_a_rule_waits_for_time_and_for_points(step, minutes, points, fires):
    rule = PAGE.model_copy(update={"duration": minutes, "points": points})
    manager, told = AlertManager(), []
    for number in range(20):
        see(manager, number * step, 0.5, rules={"errors": rule})
        if manager.alerts:
            told.append(number * step)
    assert told[0] == fires


@pytest.mark.parametrize(("pause", "fires"), [(1, True), (3, True), (4_320, False)])
@pytest.mark.parametrize("change", [{"points": 5}, {"duration": 4}])
def test_a_long_pause_begins_the_time_of_a_rule_anew(pause, fires, change):
    rule = PAGE.model_copy(update=change)
    manager, minute = AlertManager(), 0
    for number in range(5):
        minute += pause if number == 3 else 1
        point = replace(observation(minute, 0.5), interval=60.0)
        manager.observe(point, {"errors": rule}, at(minute))
    assert bool(manager.alerts) is fires


def test_a_rule_is_read_and_shown_with_its_time():
    rule = Rule.model_validate({"priority": "P1", "condition": "unusual", "for": 5})
    assert rule.duration == 5 and json.loads(rule.model_dump_json())["for"] == 5


def test_an_unacknowledged_alert_sends_reminders_and_one_escalation():
    manager = AlertManager()
    reasons = play(manager, [0.5] * 46)
    assert reasons == ["opened", "reminder", "escalated", "reminder", "reminder"]
    (alert,) = manager.alerts.values()
    assert list(alert.told) == ["page", "boss"]


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
    rules, manager = {**RULES, "slow": SLOW}, AlertManager()
    see(manager, 0, 2.0, "latency", rules, lambda a, b: 0.9)
    assert tell(manager, 0, rules) == [("opened", "mail")]
    see(manager, 1, 0.5, "error_rate", rules, lambda a, b: 0.9)
    (alert,) = manager.alerts.values()
    assert {m.metric for m in alert.members} == {"latency", "error_rate"}
    assert alert.priority == "P1"
    assert tell(manager, 1, rules) == [("worsened", "mail"), ("opened", "page")]


@pytest.mark.parametrize(
    ("minute", "labels", "correlation"),
    [(20, {}, 0.9), (1, {"region": "us"}, 0.9), (1, {}, 0.1)],
    ids=["far in time", "another label", "uncorrelated"],
)
def test_unrelated_series_open_separate_alerts(minute, labels, correlation):
    rules = {"high": Rule(priority="P2", condition="above", limit=0.1)}
    manager = AlertManager()
    see(manager, 0, 2.0, "a", rules, labels={"region": "eu"})
    labels = labels or {"region": "eu"}
    see(manager, minute, 2.0, "b", rules, lambda a, b: correlation, labels=labels)
    assert len(manager.alerts) == 2


def test_another_rule_on_the_same_series_joins_its_alert():
    manager = AlertManager()
    see(manager, 0, 0.05, alarm=True)
    see(manager, 60, 0.5)
    (alert,) = manager.alerts.values()
    assert alert.priority == "P1" and {m.rule for m in alert.members} == {"unusual", "errors"}


@pytest.mark.parametrize("minutes", [9, 11, 20 * 60, 60 * 24 * 60])
@pytest.mark.parametrize("is_late", [False, True])
def test_alerts_join_within_ten_minutes_in_either_order(minutes, is_late):
    manager, rules = AlertManager(), {"high": SLOW.model_copy(update={"match": Match()})}
    for metric, minute in (("a", 0), ("b", -minutes if is_late else minutes)):
        see(manager, minute, 2.0, metric, rules)
    assert len(manager.alerts) == (1 if minutes < 10 else 2)
    shown = [alert.to_response() for alert in manager.alerts.values()]
    assert all(alert["opened"] <= alert["updated"] for alert in shown)


def test_a_replay_of_the_same_rule_is_an_alert_of_its_own():
    manager, rules = AlertManager(), {"high": SLOW}
    fired = [(0, "a"), (-3000, "b"), (1, "c"), (-2990, "d"), (60, "e")]
    for minute, host in fired:
        see(manager, minute, 2.0, "latency", rules, labels={"host": host})
        manager = AlertManager.from_dict(manager.to_dict())
    hosts = [{m.labels["host"] for m in alert.members} for alert in manager.alerts.values()]
    assert hosts == [{"a", "c", "e"}, {"b", "d"}]


@pytest.mark.parametrize("correlation", [lambda a, b: 1.0, None])
def test_no_labels_of_an_alert_contradict_each_other(correlation):
    manager, rules = AlertManager(), {"high": SLOW.model_copy(update={"match": Match()})}
    for metric, labels in (("a", {"dc": "1"}), ("b", {}), ("c", {"dc": "2"})):
        see(manager, 0, 2.0, metric, rules, correlation, labels=labels)
    for alert in manager.alerts.values():
        assert len({m.labels["dc"] for m in alert.members if m.labels}) <= 1
    assert len(manager.alerts) == (2 if correlation else 3)


def test_an_alert_resolves_when_all_its_members_have_recovered():
    rules = {"high": SLOW.model_copy(update={"match": Match(), "recovery": 1})}
    manager = AlertManager()
    for metric in "ab":
        see(manager, 0, 2.0, metric, rules)
    assert tell(manager, 0, rules) == [("opened", "mail")]
    see(manager, 1, 0.0, "a", rules)
    assert tell(manager, 1, rules) == []
    see(manager, 1, 0.0, "b", rules)
    assert tell(manager, 1, rules) == [("resolved", "mail")]


def test_an_open_p1_silences_p3s_with_compatible_labels():
    rules, manager = {"errors": PAGE, "unusual": UNUSUAL}, AlertManager()
    see(manager, 0, 0.5, rules=rules, labels={"service": "shop"})
    see(manager, 30, 1.0, "cpu", rules, labels={"service": "shop"}, alarm=True)
    assert "chat" not in dict(reversed(pair) for pair in tell(manager, 30, rules))
    first, inhibited = manager.alerts.values()
    assert inhibited.priority == "P3" and inhibited.inhibited_by == first.id
    see(manager, 30, 1.0, "cpu", rules, labels={"service": "bank"}, alarm=True)
    assert tell(manager, 30, rules) == [("opened", "chat")]


def test_an_open_p1_silences_reminders_of_earlier_p3s():
    reminded = UNUSUAL.model_copy(update={"renotify_after": 10})
    rules, manager = {"unusual": reminded, "errors": PAGE}, AlertManager()
    see(manager, 0, 1.0, "cpu", rules, alarm=True)
    assert tell(manager, 0, rules) == [("opened", "chat")]
    see(manager, 12, 0.5, rules=rules)
    assert tell(manager, 12, rules) == [("opened", "page")] and len(manager.alerts) == 2


@pytest.mark.parametrize("lead", [1, 5, 25])
def test_a_p3_shortly_before_its_p1_is_not_told(lead):
    waiting = {"group_wait": None}  # the defaults of their priorities
    rules = {
        "errors": PAGE.model_copy(update=waiting),
        "unusual": UNUSUAL.model_copy(update=waiting),
    }
    manager, told = AlertManager(), []
    for second in range(0, 120):
        if second == 10:
            see(manager, second / 60, 1.0, "cpu", rules, alarm=True)
        if second == 10 + lead:
            see(manager, second / 60, 0.5, rules=rules)
        told += [(second, *notice) for notice in tell(manager, second / 60, rules)]
    assert told == [(10 + lead, "opened", "page")]


# News


DISK = Rule(
    priority="P1",
    condition="above",
    limit=0.9,
    match=Match(metric="disk"),
    channels=("disks",),
    group_wait=0.5,
)


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("channel", ["page", "disks"])
def test_a_second_trouble_in_an_alert_is_told(acknowledged, channel):
    disk = DISK.model_copy(update={"channels": (channel,)})
    rules, manager = {"errors": PAGE, "disk": disk}, AlertManager()
    see(manager, 0, 0.5, rules=rules, labels={"host": "a"})
    tell(manager, 0, rules)
    (alert,) = manager.alerts.values()
    if acknowledged:
        manager.acknowledge(alert.id, "ana", at(1))
    see(manager, 8, 0.95, "disk", rules, labels={"host": "a"})
    assert list(manager.alerts) == [alert.id] and alert.state == "open"
    assert tell(manager, 8, rules) == []
    expected = ("updated", "page") if channel == "page" else ("opened", "disks")
    assert tell(manager, 8.5, rules) == [expected]
    assert tell(manager, 9, rules) == []


def test_each_channel_is_reminded_at_its_own_rules_pace():
    slow = SLOW.model_copy(update={"renotify_after": 240})
    page = PAGE.model_copy(update={"escalation": ()})
    rules, manager, told = {"slow": slow, "errors": page}, AlertManager(), []
    see(manager, 0, 2.0, "latency", rules)
    for minute in range(0, 8 * 60 + 1):
        if minute == 5:
            see(manager, minute, 0.5, rules=rules)
        told += [(minute, *pair) for pair in tell(manager, minute, rules)]
    assert len(manager.alerts) == 1
    assert [minute for minute, _, channel in told if channel == "mail"] == [0, 5, 245]
    assert [m for m, _, channel in told if channel == "page"] == list(range(5, 8 * 60 + 1, 15))


def test_thirty_hosts_of_one_rule_are_one_page():
    rules = {"errors": PAGE.model_copy(update={"group_wait": 0.5, "renotify_after": None})}
    manager, told = AlertManager(), []
    for second in range(60):
        if second < 30:
            see(manager, second / 60, 0.5, rules=rules, labels={"host": f"h{second}"})
        told += tell(manager, second / 60, rules)
    assert told == [("opened", "page")]
    (alert,) = manager.alerts.values()
    assert len(alert.members) == 30 and all(m.told == ["page"] for m in alert.members)


def test_further_hosts_are_told_after_the_groups_interval():
    rules = {"errors": PAGE.model_copy(update={"renotify_after": None})}
    manager, told = AlertManager(), []
    for minute in range(20):
        if minute in (0, 2, 3, 9):
            see(manager, minute, 0.5, rules=rules, labels={"host": f"h{minute}"})
        told += [(minute, *pair) for pair in tell(manager, minute, rules)]
    assert told == [(0, "opened", "page"), (5, "updated", "page"), (10, "updated", "page")]


def test_frequent_reminders_do_not_hold_news_back():
    rules = {"errors": PAGE.model_copy(update={"renotify_after": 2, "group_interval": 5})}
    manager, told = AlertManager(), []
    for minute in range(10):
        if minute in (0, 1):
            see(manager, minute, 0.5, rules=rules, labels={"host": f"h{minute}"})
        told += [reason for reason, _ in tell(manager, minute, rules)]
    assert told[:3] == ["opened", "updated", "reminder"]


@pytest.mark.parametrize(
    ("group_by", "alerts"), [((), 1), (("region",), 2), (("region", "host"), 4), (("...",), 4)]
)
def test_series_are_grouped_by_labels(group_by, alerts):
    rules = {"errors": PAGE.model_copy(update={"group_by": group_by})}
    manager = AlertManager()
    for region, host in ("eu", "a"), ("eu", "b"), ("us", "a"), ("us", "b"):
        see(manager, 0, 0.5, rules=rules, labels={"region": region, "host": host})
    assert len(manager.alerts) == alerts


def test_all_waiting_is_by_the_clock_on_the_wall():
    manager, told = AlertManager(), []
    late = -180  # the points are three hours old
    for minute in range(40):
        point = observation(late + 4 * minute, 0.5)
        manager.observe(point, RULES, at(minute))
        told += [(minute, *pair) for pair in tell(manager, minute)]
    assert told == [
        (0, "opened", "page"),
        (15, "reminder", "page"),
        (30, "escalated", "boss"),
        (30, "reminder", "page"),
    ]


def test_an_alert_shows_its_latest_value():
    manager = AlertManager()
    play(manager, [0.5, 0.6, 0.9])
    (member,) = next(iter(manager.alerts.values())).members
    assert (member.first_value, member.value) == (0.5, 0.9)
    assert (member.fired, member.time) == (START.timestamp(), at(2).timestamp())
    manager.describe({member.series}, lambda series: ("error_rate is 0.9", {}))
    assert next(iter(manager.alerts.values())).sentence == "error_rate is 0.9"


def test_a_rule_made_more_urgent_is_told_again():
    slow = SLOW.model_copy(update={"match": Match()})
    rules, manager = {"slow": slow}, AlertManager()
    see(manager, 0, 2.0, rules=rules)
    assert tell(manager, 0, rules) == [("opened", "mail")]
    rules = {"slow": slow.model_copy(update={"priority": "P1", "channels": ("page", "mail")})}
    see(manager, 1, 2.0, rules=rules)
    assert tell(manager, 1, rules) == [("worsened", "mail"), ("opened", "page")]


# Maintenance


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
    rules, manager = {**RULES, "slow": SLOW}, AlertManager()
    windows = maintenance(2, 60, metric="error_rate")
    see(manager, 0, 0.5, rules=rules)
    see(manager, 1, 2.0, "latency", rules)
    assert len(manager.alerts) == 1
    assert tell(manager, 1, rules, windows) == [("opened", "page"), ("opened", "mail")]
    assert tell(manager, 40, rules, windows) == []


def test_an_alert_worsened_in_maintenance_notifies_after_it():
    rules, manager, windows = {**RULES, "unusual": UNUSUAL}, AlertManager(), maintenance(1, 10)
    see(manager, 0, 0.05, rules=rules, alarm=True)
    assert tell(manager, 0, rules, windows) == [("opened", "chat")]
    assert play(manager, [0.5] * 9, rules, windows, start=1, alarm=True) == []
    assert {a.priority for a in manager.alerts.values()} == {"P1"}
    assert tell(manager, 10, rules, windows) == [("worsened", "chat"), ("opened", "page")]
    assert tell(manager, 11, rules, windows) == []


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
    keys = []
    for restored in (manager, AlertManager.from_dict(json.loads(before))):
        see(restored, 0, 0.5)
        keys.append([notice.key for notice in restored.advance(at(0), RULES)[0]])
    assert keys[0] == keys[1] != []


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
    manager.resolve(alert.id, at(2))
    assert tell(manager, 2) == [("resolved", "page")]
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
    assert tell(manager, 1, rules) == [("resolved", "page")]
    assert not manager.conditions


def test_resolved_alerts_are_removed_once_they_cannot_reopen():
    manager = AlertManager()
    play(manager, [0.5, 0.0, 0.0])
    assert manager.remove_old(START + timedelta(minutes=40)) == []
    assert len(manager.remove_old(START + timedelta(hours=3))) == 1
    assert not manager.alerts


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.01, 0.5, 0.6]), max_size=12), st.booleans())
def test_a_sentence_says_the_value_of_its_series(values, is_described):
    manager = AlertManager()
    for minute, value in enumerate(values):
        seen = observation(minute, value)
        explained = f"error_rate is {value:g}", {}
        manager.observe(seen, RULES, at(minute), explain=lambda told=explained: told)
        if is_described:
            manager.describe({seen.series}, lambda _, told=explained: told)
        for alert in manager.alerts.values():
            for member in alert.members:
                if is_described or not member.is_active:
                    assert f"is {member.value:g}" in member.sentence
            if alert.state == "resolved":
                assert "it was 0." in alert.sentence


def test_what_cleared_before_it_was_told_is_not_told():
    manager = AlertManager()
    for minute, value in enumerate([0.5, 0.5, 0.0, 0.0]):
        see(manager, minute, value)
    assert tell(manager, 5) == [] and manager.open_alerts() == []


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
