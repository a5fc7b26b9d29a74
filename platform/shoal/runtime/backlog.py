"""What waits on the whole platform, and its metrics for Prometheus."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shoal.tenants.storage_size import count_vector_rows

from .context import PlatformContext


@dataclass
class Backlog:
    """What waits, over all tenants.

    Attributes:
        lag_events: By group: the most events that one tenant's log has after the
            group's position, counted up to 10,000.
        lag_seconds: By group: since when the oldest of these waits.
        dead_letters: By group: how many there are.
        job_runs: By state: `queued`, `running`, and `late`, which is one of these past
            its job's deadline.
        job_wait_seconds: How long the run that has waited longest is past its time.
    """

    lag_events: Counter[str] = field(default_factory=Counter)
    lag_seconds: dict[str, float] = field(default_factory=dict)
    dead_letters: Counter[str] = field(default_factory=Counter)
    job_runs: Counter[str] = field(default_factory=Counter)
    job_wait_seconds: float = 0.0


async def measure_backlog(platform: PlatformContext, tenants: Sequence[str]) -> Backlog:
    """Measure what waits of these tenants, and the job runs of all.

    Raises:
        Unavailable: A Redis cannot be reached.
    """
    found, log = Backlog(), platform.event_log
    for tenant in tenants:
        for state in await log.groups(tenant):
            group = state.group
            found.lag_events[group] = max(found.lag_events[group], state.lag)
            found.lag_seconds[group] = max(found.lag_seconds.get(group, 0.0), state.behind)
        found.dead_letters.update(await log.dead_letter_counts(tenant))
    now = datetime.now(UTC)
    for run in await asyncio.to_thread(platform.job_runs.unfinished):
        found.job_runs[run.state] += 1
        found.job_runs["late"] += run.late
        if run.state == "queued":
            waited = (now - run.scheduled_for).total_seconds()
            found.job_wait_seconds = max(found.job_wait_seconds, waited)
    return found


async def measure_index(platform: PlatformContext, tenants: Sequence[str]) -> int:
    """The rows of these tenants in the vectors store."""
    return sum([await count_vector_rows(platform.stores, tenant) for tenant in tenants])


class BacklogExporter:
    """Exports what waits.

    - `ray_shoal_stream_lag_events`, `ray_shoal_stream_lag_seconds`: of the tenant that
      is furthest behind, by capability and stream.
    - `ray_shoal_dead_letters`: by capability and stream.
    - `ray_shoal_job_runs`: by state.
    - `ray_shoal_job_wait_seconds`: how long the oldest waiting run is past its time.
    - `ray_shoal_index_rows`: rows of the vectors store, measured every hour.

    Args:
        groups: All groups, so that one without a backlog is 0.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        from ray.util.metrics import Gauge

        self._groups = groups
        stream = ("capability", "stream")
        self._lag_events = Gauge(
            "shoal_stream_lag_events", "Events that wait, of the tenant with the most.", stream
        )
        self._lag_seconds = Gauge(
            "shoal_stream_lag_seconds", "How long the oldest event has waited.", stream
        )
        self._dead = Gauge("shoal_dead_letters", "Events that could not be handled.", stream)
        self._runs = Gauge("shoal_job_runs", "Unfinished job runs by state.", ("state",))
        self._wait = Gauge("shoal_job_wait_seconds", "How long the oldest queued run is late.", ())
        self._rows = Gauge("shoal_index_rows", "Rows of the vectors store.", ())

    def export(self, backlog: Backlog) -> None:
        for group in self._groups:
            capability, _, stream = group.partition(".")
            tags = {"capability": capability, "stream": stream}
            self._lag_events.set(backlog.lag_events[group], tags)
            self._lag_seconds.set(backlog.lag_seconds.get(group, 0.0), tags)
            self._dead.set(backlog.dead_letters[group], tags)
        for state in ("queued", "running", "late"):
            self._runs.set(backlog.job_runs[state], {"state": state})
        self._wait.set(backlog.job_wait_seconds)

    def export_index(self, rows: int) -> None:
        self._rows.set(rows)
