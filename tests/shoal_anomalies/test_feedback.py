import numpy as np

from shoal_anomalies.feedback import label_spans

TIMES = 60.0 * np.arange(100)


def test_a_verdict_covers_the_points_around_the_anomaly():
    assert label_spans(TIMES, [(3000.0, True), (600.0, False)], []) == (
        [(2700.0, 3600.0)],
        [(300.0, 1200.0)],
    )


def test_overlapping_windows_merge_and_override_denials():
    windows, denied = label_spans(
        TIMES, [(3000.0, True), (3300.0, True), (3360.0, False)], [(2400.0, 2760.0)]
    )
    assert windows == [(2400.0, 3900.0)] and denied == []


def test_feedback_on_deleted_points_is_ignored():
    assert label_spans(TIMES, [(-600.0, True), (9e9, False), (90.0, True)], [(9e9, 9e9 + 60)]) == (
        [],
        [],
    )


def test_an_anomaly_is_found_by_the_second_in_its_id():
    times = TIMES + 0.6
    (window,), _ = label_spans(times, [(round(times[50]), True)], [])
    assert window == (times[45], times[60])
