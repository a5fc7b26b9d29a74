"""Request metrics on their way to Prometheus."""

from collections import Counter
from typing import Any

import pytest

from shoal.router.metering import BOUNDS, RequestCounts
from shoal.runtime.ray_metrics import (
    MAX_SERIES,
    BoundedLabels,
    RayMetricsExporter,
    cumulative_buckets,
)


class RecordingCounter:
    """Ray's Counter, with its values."""

    made: dict[str, "RecordingCounter"] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.tag_keys, self.values = tag_keys, Counter[tuple[str, ...]]()
        self.default: dict[str, str] = {}
        self.made[name] = self

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.default = tags

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        self.values[tuple({**self.default, **tags}[key] for key in self.tag_keys)] += int(value)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> RayMetricsExporter:
    monkeypatch.setattr("ray.util.metrics.Counter", RecordingCounter)
    return RayMetricsExporter("search")


def counts(*bucket_indices: int) -> RequestCounts:
    found = RequestCounts()
    for index in bucket_indices:
        found.add(index, 0.0, False)
    return found


def test_buckets_are_cumulative_and_end_with_all_requests() -> None:
    buckets = dict(cumulative_buckets(counts(0, 5, 30, len(BOUNDS))))
    assert (buckets["0.0004"], buckets["0.0008"], buckets["6.5536"]) == (1, 2, 3)
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["+Inf"] == 4


def test_statuses_are_grouped_and_tenants_kept_apart(exporter: RayMetricsExporter) -> None:
    requests: Any = {
        ("acme", "GET /q", 200): counts(4, 4),
        ("acme", "GET /q", 204): counts(4),
        ("acme", "GET /q", 503): counts(40),
        ("globex", "GET /q", 404): counts(4),
    }
    for _ in range(2):
        exporter.export(requests)
    assert RecordingCounter.made["shoal_requests"].values == {
        ("acme", "search", "GET /q", "2xx"): 6,
        ("acme", "search", "GET /q", "5xx"): 2,
        ("globex", "search", "GET /q", "4xx"): 2,
    }
    latencies = RecordingCounter.made["shoal_request_seconds_bucket"].values
    assert latencies["acme", "search", "0.0004"] == 6
    assert latencies["acme", "search", "+Inf"] == 8


def test_the_number_of_series_is_bounded(exporter: RayMetricsExporter) -> None:
    tenants = 3 * MAX_SERIES
    exporter.export({(f"t{n}", "GET /q", 200): counts(4) for n in range(tenants)})
    for counter in RecordingCounter.made.values():
        assert len(counter.values) <= 2_000
    requests = RecordingCounter.made["shoal_requests"].values
    assert requests.total() == tenants
    assert requests["other", "search", "GET /q", "2xx"] == tenants - MAX_SERIES


def test_known_labels_stay_when_the_bound_is_reached() -> None:
    labels = BoundedLabels(1)
    assert labels.bound("acme", "GET /q") == ("acme", "GET /q")
    assert labels.bound("globex", "GET /q") == ("other", "GET /q")
    assert labels.bound("acme", "GET /q") == ("acme", "GET /q")
