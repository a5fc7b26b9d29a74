"""Processing of metric events: points in, anomalies, alerts and notices out."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from shoal import Event, TenantContext

from .alert_clock import AlertClock
from .alert_state import MAX_ATTEMPTS, BatchWrites, commit, read_alert_state
from .batch_scoring import BatchScorer
from .notifier import Notifier
from .points import KINDS, InvalidPoint, Point, parse_point, series_id
from .rules import Rule
from .series_cache import SeriesCache

log = logging.getLogger("shoal.anomalies")

VARIANT_METRICS = "shoal.variant."  # of experiments, which have guardrails of their own


class StreamProcessor:
    """Processes the metric events of all tenants that this worker follows.

    Each batch is written in one step with the alerts that follow from it, so after a
    crash it is either done or was never begun. Points that were scored before are
    recognised by their time and skipped.
    """

    def __init__(self) -> None:
        self.cache = SeriesCache()
        self.notifier = Notifier()
        self.alert_clock = AlertClock(self.notifier)
        self._locks: dict[str, asyncio.Lock] = {}

    async def handle(self, ctx: TenantContext, events: Sequence[Event]) -> None:
        """Process one tenant's events; invalid ones are rejected.

        Raises:
            RuntimeError: Other processes kept changing the alerts; the batch can be
                processed again.
        """
        now = datetime.now(UTC)
        points = [point for event in events if (point := _read_point(ctx, event, now)) is not None]
        async with self._locks.setdefault(ctx.tenant, asyncio.Lock()):
            for _ in range(MAX_ATTEMPTS):
                written, due = await self._process(ctx, points, now)
                if written:
                    break
            else:
                raise RuntimeError("the alerts kept changing while the batch was processed")
        self.notifier.schedule_delivery(ctx)
        self.alert_clock.schedule(ctx, due)

    async def _process(
        self, ctx: TenantContext, points: list[Point], now: datetime
    ) -> tuple[bool, float | None]:
        """Score points and write the result.

        Returns:
            False if the alerts changed meanwhile; when to advance the alerts next.
        """
        alert_state = await read_alert_state(ctx)
        await self.cache.reload_models(ctx, alert_state.fitted_at)
        writes = BatchWrites()
        wanted = {point.series: point for point in points}
        others = _other_series(alert_state.rules, wanted.values())
        series = await self.cache.load(ctx, wanted, writes, others - wanted.keys())
        written = False
        try:
            forests = self.cache.forests(ctx.tenant)
            scorer = BatchScorer(series, forests, alert_state, writes, now)
            await asyncio.to_thread(scorer.score, points)
            written = await commit(ctx, alert_state, writes, now)
        finally:
            if not written:  # in memory the series are ahead of what is stored
                self.cache.evict(ctx.tenant, wanted)
        return written, alert_state.due


def _other_series(rules: Mapping[str, Rule], points: Iterable[Point]) -> set[str]:
    """The ids of series that rules look at beside those of the points."""
    return {
        series_id(name, point.labels, kind)
        for point in points
        for rule in rules.values()
        if (rule.also or rule.volume) and rule.applies_to(point.metric, point.labels)
        for name in rule.other_metrics(point.metric)
        for kind in KINDS
    }


def _read_point(ctx: TenantContext, event: Event, now: datetime) -> Point | None:
    """The event's point; None if it is rejected, or an experiment's."""
    data = event.data
    if not isinstance(data, Mapping):
        ctx.reject(event, "data: must be an object with metric and value")
        return None
    names = ("metric", "value", "labels", "kind", "start")
    known = {name: data[name] for name in names if name in data}
    if str(known.get("metric", "")).startswith(VARIANT_METRICS):
        return None
    try:
        return parse_point({**known, "time": event.time}, now)
    except InvalidPoint as error:
        ctx.reject(event, str(error))
        return None
