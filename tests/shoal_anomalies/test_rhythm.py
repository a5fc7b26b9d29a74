"""Series that stop are told of, and usual pauses are not."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_anomalies.alert_manager import AlertManager
from shoal_anomalies.maintenance import Match
from shoal_anomalies.points import series_id
from shoal_anomalies.rhythm import Rhythm
from shoal_anomalies.rules import Observation, Rule

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
RULE = Rule(
    priority="P2",
    condition="above",
    limit=0.5,
    match=Match(metric="load"),
    channels=("mail",),
    group_wait=0,
    recovery=1,
    no_data="alert",
)


def rhythm(start: float) -> Rhythm:
    return Rhythm("load", {}, start, start, start)


@settings(max_examples=50, deadline=None)
@given(
    step=st.floats(1, 86_400),
    jitter=st.lists(st.floats(0.8, 1.2), min_size=30, max_size=60),
    batch=st.integers(1, 10),
)
def test_only_the_end_of_a_steady_series_is_a_silence(
    step: float, jitter: list[float], batch: int
) -> None:
    heard, time, now = rhythm(0.0), 0.0, 0.0
    for number, factor in enumerate(jitter):
        time += step * factor
        if number % batch == batch - 1:  # several points arrive together
            now = time
            heard.hear(time, now)
        else:
            heard.hear(time, heard.seen)
        assert not heard.is_overdue(now + 1.2 * step * batch)
    if heard.patience is not None:
        assert not heard.is_overdue(heard.seen + 0.999 * heard.patience)
        assert heard.is_overdue(heard.seen + max(3.6 * step * batch, 120) + 1)


def office_minutes(weeks: int) -> list[datetime]:
    """Every minute from 8 to 18 o'clock in Berlin, Monday to Friday."""
    minutes = []
    for day in range(7 * weeks):
        date = datetime(2026, 3, 2, 8, tzinfo=BERLIN) + timedelta(days=day)
        if date.weekday() < 5:
            first = date.astimezone(UTC)
            minutes += [first + timedelta(minutes=m) for m in range(600)]
    return minutes


def test_usual_pauses_are_learnt_and_an_outage_is_found() -> None:
    """Nights and weekends, with the change of the clocks on 29 March."""
    minutes = office_minutes(5)
    heard, found = rhythm(minutes[0].timestamp()), []
    for moment, following in pairwise(minutes):
        now = moment.timestamp()
        heard.hear(now, now)
        pause = following.timestamp() - now
        if any(heard.is_overdue(now + pause * part / 20) for part in range(1, 20)):
            found.append(moment)
    learning = datetime(2026, 3, 9, 9, tzinfo=UTC)
    assert [moment for moment in found if moment > learning] == []
    outage = datetime(2026, 4, 7, 11, tzinfo=UTC)  # a Tuesday
    heard.hear(outage.timestamp(), outage.timestamp())
    assert heard.is_overdue(outage.timestamp() + 181)


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def see(manager: AlertManager, minute: float, value: float, rule: Rule, metric: str) -> None:
    seen = Observation(metric, {}, series_id(metric, {}), at(minute), value)
    manager.observe(seen, {"load": rule}, at(minute))


def play(rule: Rule, values: list[float], silent: int, metric: str = "load") -> list[tuple]:
    """A point a minute, then silence; notices with their minutes."""
    manager, told = AlertManager(), []
    for minute in range(len(values) + silent):
        if minute < len(values):
            see(manager, minute, values[minute], rule, metric)
        manager = AlertManager.from_dict(manager.to_dict())
        notices, _ = manager.advance(at(minute), {"load": rule})
        told += [(minute, notice.reason) for notice in notices]
    return told


@pytest.mark.parametrize(
    ("no_data", "last", "told"),
    [
        ("alert", 0.1, [(33, "opened")]),
        ("resolve", 0.1, []),
        ("keep", 0.1, []),
        ("alert", 0.9, [(29, "opened")]),
        ("resolve", 0.9, [(29, "opened"), (33, "resolved")]),
        ("keep", 0.9, [(29, "opened")]),
    ],
)
def test_a_rule_says_what_silence_means(no_data, last, told):
    rule = RULE.model_copy(update={"no_data": no_data})
    assert play(rule, [0.1] * 29 + [last], 60) == told
    assert play(rule, [0.1] * 29 + [last], 60, "other") == []


def test_data_that_comes_back_resolves_and_silence_is_told_once():
    manager, told = AlertManager(), []
    minutes = [*range(30), *range(60, 90)]
    for minute in range(100):
        if minute in minutes:
            see(manager, minute, 0.1, RULE, "load")
        if minute == 45:
            (alert,) = manager.open_alerts()
            assert "has no data since 2026-03-02 09:29 UTC" in alert.sentence
            (member,) = alert.members
            assert (member.condition, member.value) == ("no data", None)
        if minute == 50:
            manager.resolve(alert.id, at(minute))
        notices, _ = manager.advance(at(minute), {"load": RULE})
        told += [(minute, notice.reason) for notice in notices]
    assert told == [(33, "opened"), (50, "resolved"), (93, "opened")]


def test_a_rule_that_no_longer_watches_lets_go():
    manager = AlertManager()
    for minute in range(30):
        see(manager, minute, 0.1, RULE, "load")
    assert [n.reason for n in manager.advance(at(40), {"load": RULE})[0]] == ["opened"]
    rule = RULE.model_copy(update={"no_data": "keep"})
    assert [n.reason for n in manager.advance(at(41), {"load": rule})[0]] == ["resolved"]
    assert not manager.rhythms
