from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from shoal_anomalies.maintenance import MaintenanceWindow, Match


def window(start, end, **rest):
    return MaintenanceWindow.model_validate({"from": start, "to": end, **rest})


def at(text):
    return datetime.fromisoformat(text)


def test_a_single_window_excludes_its_end():
    subject = window("2026-03-02T09:00:00+01:00", "2026-03-02T10:00:00+01:00")
    assert subject.is_active(at("2026-03-02T08:00:00+00:00"))
    assert not subject.is_active(at("2026-03-02T07:59:59+00:00"))
    assert not subject.is_active(at("2026-03-02T09:00:00+00:00"))


def test_a_window_that_ends_before_it_starts_is_rejected():
    with pytest.raises(ValidationError, match=r"ends .* before it starts"):
        window("2026-03-02T10:00:00Z", "2026-03-02T09:00:00Z")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd"])
def test_an_unknown_time_zone_is_rejected(zone):
    with pytest.raises(ValidationError, match="time zone"):
        window("2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z", repeat={"timezone": zone})


def test_a_repeating_window_keeps_its_local_time_across_clock_changes():
    subject = window(
        "2026-03-02T09:00:00+01:00",
        "2026-03-02T10:00:00+01:00",
        repeat={"timezone": "Europe/Berlin"},
    )
    assert subject.is_active(at("2026-07-01T07:30:00+00:00"))
    assert not subject.is_active(at("2026-07-01T08:30:00+00:00"))
    assert subject.is_active(at("2026-12-01T08:30:00+00:00"))


def test_a_window_in_a_skipped_hour_is_shorter():
    subject = window(
        "2026-03-01T02:00:00+01:00",
        "2026-03-01T04:00:00+01:00",
        repeat={"timezone": "Europe/Berlin"},
    )
    first, last = subject.occurrence(at("2026-03-29T01:30:00+00:00"))
    assert last - first == timedelta(hours=1)
    assert not subject.is_active(at("2026-03-29T02:00:00+00:00"))


def test_a_window_covers_both_occurrences_of_a_repeated_hour():
    subject = window(
        "2026-10-01T02:00:00+02:00",
        "2026-10-01T04:00:00+02:00",
        repeat={"timezone": "Europe/Berlin"},
    )
    first, last = subject.occurrence(at("2026-10-25T01:30:00+00:00"))
    assert last - first == timedelta(hours=3)


def test_a_window_past_midnight_belongs_to_its_first_day():
    subject = window(
        "2026-03-06T22:00:00+01:00",
        "2026-03-07T02:00:00+01:00",
        repeat={"timezone": "Europe/Berlin", "days": ["fri"]},
    )
    assert subject.is_active(at("2026-03-14T00:30:00+01:00"))
    assert not subject.is_active(at("2026-03-13T00:30:00+01:00"))


def test_a_window_repeats_only_from_its_start_to_until():
    subject = window(
        "2026-03-04T09:00:00+00:00",
        "2026-03-04T10:00:00+00:00",
        repeat={"timezone": "UTC", "until": "2026-03-06T00:00:00Z"},
    )
    found = [d for d in range(1, 10) if subject.is_active(datetime(2026, 3, d, 9, 30, tzinfo=UTC))]
    assert found == [4, 5]


def test_a_match_requires_all_its_labels():
    match = Match(metric="shop.*", labels={"region": "eu-*"})
    assert match.covers("shop.latency", {"region": "eu-west"})
    assert not match.covers("shop.latency", {"region": "us-east"})
    assert not match.covers("shop.latency", {})
    assert not match.covers("bank.latency", {"region": "eu-west"})
