"""Request metrics for Prometheus, through Ray's metrics."""

from collections import Counter as Counts
from collections.abc import Mapping
from itertools import accumulate

from shoal.router.metering import BOUNDS, RequestCounts

MAX_SERIES = 1_500
"""Label sets that one replica creates for one metric.

Ray exports by OpenTelemetry, which merges the label sets after the 2,000th into one.
"""
OTHER = "other"
"""The tenant of requests that would exceed `MAX_SERIES`."""

EXPORTED = range(4, 35, 2)
"""Every second latency bucket from 0.4 ms to 13 s: 16 series a tenant instead of 41."""
LABELS = {index: f"{BOUNDS[index]:g}" for index in EXPORTED}


class RayMetricsExporter:
    """Exports the requests of one replica.

    - `ray_shoal_requests_total`: requests by tenant, capability, route and status class
      (`2xx`, `4xx`, `5xx`).
    - `ray_shoal_loop_blocked_seconds`: the longest time that a replica's event loop was
      blocked in the last hour.
    - `ray_shoal_memory_bytes`: a replica's memory.
    - `ray_shoal_request_seconds_bucket_total`: latencies by tenant and capability, a
      cumulative histogram with the label `le`. They are counters, not a histogram of
      Ray's, which takes one observation at a time.

    Args:
        capability: The capability's name.
    """

    def __init__(self, capability: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self._requests = Counter(
            "shoal_requests",
            "Requests by tenant, capability, route and status class.",
            ("tenant", "capability", "route", "status"),
        )
        self._latencies = Counter(
            "shoal_request_seconds_bucket",
            "Requests that took at most `le` seconds, by tenant and capability.",
            ("tenant", "capability", "le"),
        )
        self._blocked = Gauge(
            "shoal_loop_blocked_seconds",
            "The longest time in the last hour that a replica's event loop was blocked.",
            ("capability",),
        )
        self._memory = Gauge("shoal_memory_bytes", "A replica's resident memory.", ("capability",))
        for metric in (self._requests, self._latencies, self._blocked, self._memory):
            metric.set_default_tags({"capability": capability})
        self._request_labels = BoundedLabels(MAX_SERIES)
        self._tenants = BoundedLabels(MAX_SERIES // (len(EXPORTED) + 1))

    def export(self, requests: Mapping[tuple[str, str, int], RequestCounts]) -> None:
        """Add the requests since the last export, by (tenant, route, status)."""
        counts: Counts[tuple[str, ...]] = Counts()
        latencies: dict[str, RequestCounts] = {}
        for (tenant, route, status), counted in requests.items():
            labels = self._request_labels.bound(tenant, route, f"{status // 100}xx")
            counts[labels] += counted.count
            (name,) = self._tenants.bound(tenant)
            latencies.setdefault(name, RequestCounts()).merge(counted)
        for (tenant, route, status_class), count in counts.items():
            tags = {"tenant": tenant, "route": route, "status": status_class}
            self._requests.inc(count, tags)
        for tenant, counted in latencies.items():
            for le, count in cumulative_buckets(counted):
                self._latencies.inc(count, {"tenant": tenant, "le": le})

    def export_replica(self, blocked: float, memory: int) -> None:
        """Set this replica's longest block of the loop in seconds, and its bytes."""
        self._blocked.set(blocked)
        self._memory.set(memory)


class RejectionCounter:
    """Exports `ray_shoal_rejected_events_total`: events that a stream could not use.

    By tenant, capability and stream. A batch that is handled again counts again; what
    `GET /platform/events/rejected` counts is exact.
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter

        self._rejected = Counter(
            "shoal_rejected_events",
            "Events that a stream could not use, by tenant, capability and stream.",
            ("tenant", "capability", "stream"),
        )
        self._labels = BoundedLabels(MAX_SERIES)

    def count(self, tenant: str, group: str, events: int) -> None:
        """Count events that a group rejected."""
        name, capability, stream = self._labels.bound(tenant, *group.split(".", 1))
        tags = {"tenant": name, "capability": capability, "stream": stream}
        self._rejected.inc(events, tags)


def cumulative_buckets(counts: RequestCounts) -> list[tuple[str, int]]:
    """The buckets that are not empty: (upper bound in seconds, requests up to it)."""
    below = list(accumulate(counts.buckets))
    buckets = [(label, below[index]) for index, label in LABELS.items()]
    return [(label, count) for label, count in (*buckets, ("+Inf", counts.count)) if count]


class BoundedLabels:
    """Lets the first label sets through; later ones get the tenant `other`.

    Args:
        limit: The number of label sets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def bound(self, tenant: str, *labels: str) -> tuple[str, ...]:
        """The labels to use for a tenant's."""
        wanted = (tenant, *labels)
        if wanted not in self._known:
            if len(self._known) >= self._limit:
                return (OTHER, *labels)
            self._known.add(wanted)
        return wanted
