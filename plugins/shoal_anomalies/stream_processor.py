"""Watching a tenant's series: points in; scores, anomalies, alerts and what must be
sent out, all written at once.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson

from shoal import Event, TenantContext

from . import keys
from .alert_state import TRIES, Settings, Writes, commit, read_settings
from .detector import DEFAULT_THRESHOLD
from .explanation import Explanation, explain
from .multivariate import CombinationForest, Driver
from .notifier import Courier
from .parameters import AnomalyParameters
from .points import BadPoint, Point, parse_point, series_id
from .recent_points import pack
from .rules import Observation, Rule
from .series_state import Watched, restored, when
from .stored_models import load_forest, load_season

log = logging.getLogger("shoal.anomalies")

LIVE = timedelta(hours=2)  # older points are scored and kept, and alert nobody
SAVE_EVERY = 16  # points of a series between writes of its state; what lies between is replayed
MOST_SERIES = 20_000  # per tenant
IN_MEMORY = 4_000  # series, per process
TOGETHER = 600.0  # seconds within which metrics count as turning odd together
SURE = 6.0  # nats from which a combination is odd


class Watcher:
    """All series that this process watches, of all its tenants. `handle` is the
    stream's handler.

    Every batch is written in one step with the alerts that follow from it, so that
    after a crash it is either done or was never begun; points that were taken in before
    are known by their time and passed over.
    """

    def __init__(self) -> None:
        self._series: OrderedDict[tuple[str, str], Watched] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._fitted: dict[str, bytes | None] = {}
        self._forests: dict[str, dict[str, CombinationForest]] = {}
        self.courier = Courier()

    async def handle(self, ctx: TenantContext, events: Sequence[Event]) -> None:
        now = datetime.now(UTC)
        points = [point for event in events if (point := _point(event, now)) is not None]
        async with self._locks.setdefault(ctx.tenant, asyncio.Lock()):
            for _ in range(TRIES):
                if await self._take(ctx, points, now):
                    break
            else:
                raise RuntimeError("the alerts kept changing; the batch is taken again")
        self.courier.kick(ctx)

    async def _take(self, ctx: TenantContext, points: list[Point], now: datetime) -> bool:
        settings = await read_settings(ctx)
        before = orjson.dumps(settings.book.to_dict())
        await self._refresh(ctx, settings.fitted)
        writes = Writes()
        wanted = {point.series: point for point in points}
        series = await self._load(ctx, wanted, writes)
        try:
            forests = self._forests[ctx.tenant]
            notices = await asyncio.to_thread(
                self._judge, series, forests, points, settings, writes, now
            )
            notices += settings.book.tick(now, settings.rules, settings.windows)
            done = await commit(ctx, settings, notices, before, writes, now)
        except BaseException:
            self._forget(ctx.tenant, wanted)
            raise
        if not done:
            self._forget(ctx.tenant, wanted)  # in memory they are ahead of what is written
        return done

    def _forget(self, tenant: str, series: Mapping[str, Any]) -> None:
        for name in series:
            self._series.pop((tenant, name), None)

    async def _refresh(self, ctx: TenantContext, fitted: bytes | None) -> None:
        """After a night's fit: the new seasons and forests."""
        if fitted == self._fitted.get(ctx.tenant) and ctx.tenant in self._forests:
            return
        stored = await ctx.stores.online.hgetall(keys.FORESTS)
        self._forests[ctx.tenant] = await asyncio.to_thread(_load_forests, stored)
        known = self._of(ctx.tenant)
        models = await ctx.stores.online.hmget(keys.MODELS, list(known)) if known else []
        for (name, watched), stored_model in zip(known.items(), models, strict=True):
            watched.model = load_season(name, stored_model)
        self._fitted[ctx.tenant] = fitted

    def _of(self, tenant: str) -> dict[str, Watched]:
        return {
            series: watched for (owner, series), watched in self._series.items() if owner == tenant
        }

    async def _load(
        self, ctx: TenantContext, wanted: Mapping[str, Point], writes: Writes
    ) -> dict[str, Watched]:
        """The tenant's series in memory, with all that are wanted (but for what is over
        `MOST_SERIES`).

        The batch works on this dict of its own, so that it loses nothing when other
        tenants' batches push its series out of memory meanwhile, and can be read in a
        thread.
        """
        settings = ctx.parameters(AnomalyParameters).settings()
        if not wanted:
            return {}
        online = ctx.stores.online
        abouts = dict(zip(wanted, await online.hmget(keys.SERIES, list(wanted)), strict=True))
        series = self._of(ctx.tenant)
        if any(about is None and name in series for name, about in abouts.items()):
            # The tenant was erased meanwhile, or the series dropped: begin anew.
            self._forget(ctx.tenant, series)
            series = {}
        missing = [name for name in wanted if name not in series]
        if missing:
            pipe = online.pipeline()
            pipe.hmget(keys.STATES, missing).hmget(keys.MODELS, missing).hlen(keys.SERIES)
            for name in missing:
                pipe.get(keys.tail(name))
            states, models, count, *tails = await pipe.execute()
            for name, state, model, blob in zip(missing, states, models, tails, strict=True):
                point, about = wanted[name], abouts[name]
                if about is None:
                    if count >= MOST_SERIES:
                        log.warning(
                            "%s has %d series; %s is left out", ctx.tenant, count, point.metric
                        )
                        continue
                    count += 1
                    record = {
                        "metric": point.metric,
                        "labels": dict(point.labels),
                        "kind": point.kind,
                    }
                    writes.series[name] = orjson.dumps(record)
                else:
                    record = orjson.loads(about)
                series[name] = await asyncio.to_thread(
                    restored, name, record, state, blob, settings, load_season(name, model)
                )
        for name in wanted:
            if name in series:
                self._series[ctx.tenant, name] = series[name]
                self._series.move_to_end((ctx.tenant, name))
                series[name].detector.settings = settings
        while len(self._series) > max(IN_MEMORY, len(wanted)):
            self._series.popitem(last=False)
        return series

    # What follows is pure computing, in a thread.

    def _judge(
        self, series: Mapping[str, Watched], forests: Mapping[str, CombinationForest], points: list[Point], settings: Settings,
        writes: Writes, now: datetime,
    ) -> list[Any]:  # fmt: skip
        notices = []
        fresh = self._fresh(series, points, writes)
        odd, driven = self._combinations(series, forests, fresh)
        for watched, time, value in fresh:
            together = odd.get((watched.id, time))
            verdict = watched.score(time, value, together)
            self._keep(watched, time, value, verdict.score, writes)
            anomaly: Explanation | None = None
            if verdict.score >= DEFAULT_THRESHOLD:
                anomaly = self._explain(
                    series, watched, time, value, driven.get((watched.id, time), ())
                )
                record = {
                    "id": f"{watched.id}-{time:.0f}",
                    "labels": dict(watched.labels),
                    "series": watched.id,
                    **anomaly.to_dict(),
                }
                writes.found.append((time, orjson.dumps(record)))
            notices += self._observe(series, watched, time, value, anomaly, settings, now)
            if watched.unsaved >= SAVE_EVERY:
                writes.states[watched.id] = watched.to_bytes()
        return notices

    def _fresh(
        self, series: Mapping[str, Watched], points: list[Point], writes: Writes
    ) -> list[tuple[Watched, float, float]]:
        """The points to score, by time. A time that was scored already is a repetition
        or a correction: kept, not scored.
        """
        fresh: list[tuple[Watched, float, float]] = []
        latest: dict[str, float] = {}
        for point in sorted(points, key=lambda p: p.time):
            watched = series.get(point.series)
            if watched is None:
                continue  # over `MOST_SERIES`
            time, value = point.time.timestamp(), point.value
            if point.kind == "counter":
                rate = watched.rate(point)
                writes.series[watched.id] = orjson.dumps(
                    {
                        "metric": point.metric,
                        "labels": dict(point.labels),
                        "kind": "counter",
                        "raw": watched.raw,
                    }
                )
                if rate is None:
                    continue
                value = rate
            if time > latest.get(watched.id, watched.last):
                latest[watched.id] = time
                fresh.append((watched, time, value))
            elif not _has(watched, time, value):
                self._keep(watched, time, value, math.nan, writes)
        return fresh

    def _keep(
        self, watched: Watched, time: float, value: float, score: float, writes: Writes
    ) -> None:
        record = pack(time, value, score)
        writes.tails[watched.id] = ("a", writes.tails.get(watched.id, ("a", b""))[1] + record)
        writes.fresh.append(bytes.fromhex(watched.id) + record)

    def _combinations(
        self,
        series: Mapping[str, Watched],
        forests: Mapping[str, CombinationForest],
        fresh: list[tuple[Watched, float, float]],
    ) -> tuple[dict[tuple[str, float], float], dict[tuple[str, float], list[Driver]]]:
        """By series and time: how odd the metrics are together, and which of them drive
        it where they are.
        """
        odd: dict[tuple[str, float], float] = {}
        driven: dict[tuple[str, float], list[Driver]] = {}
        if not forests:
            return odd, driven
        rows: dict[tuple[str, float], dict[str, tuple[str, float]]] = {}
        for watched, time, value in fresh:
            group = series_id("", watched.labels)
            if group in forests:
                rows.setdefault((group, time), {})[watched.metric] = (watched.id, value)
        for group in {group for group, _ in rows}:
            forest = forests[group]
            whole = [
                (time, row)
                for (owner, time), row in rows.items()
                if owner == group and self._completed(series, forest.metrics, time, row)
            ]
            if not whole:
                continue
            matrix = np.array([[row[m][1] for m in forest.metrics] for _, row in whole])
            for (time, row), nats in zip(whole, forest.surprises(matrix).tolist(), strict=True):
                drivers = (
                    forest.drivers({m: row[m][1] for m in forest.metrics}) if nats >= SURE else []
                )
                for name, _ in row.values():
                    odd[name, time], driven[name, time] = nats, drivers
        return odd, driven

    def _completed(
        self,
        series: Mapping[str, Watched],
        metrics: Sequence[str],
        time: float,
        row: dict[str, tuple[str, float]],
    ) -> bool:
        """Add to a row what came in an earlier batch for the same time; whether it is
        whole then.
        """
        labels = series[next(iter(row.values()))[0]].labels
        for metric in metrics:
            if metric in row:
                continue
            other = series.get(series_id(metric, labels))
            times = other.detector.times if other else np.zeros(0)
            place = int(np.searchsorted(times, time))
            if other is None or place == len(times) or times[place] != time:
                return False
            row[metric] = other.id, float(other.detector.values[place])
        return True

    def _observe(
        self, series: Mapping[str, Watched], watched: Watched, time: float, value: float, anomaly: Explanation | None,
        settings: Settings, now: datetime,
    ) -> list[Any]:  # fmt: skip
        rules = {
            n: r
            for n, r in settings.rules.items()
            if r.enabled and r.match.covers(watched.metric, watched.labels)
        }
        if not rules:
            return []
        expected = (
            watched.usual(time)
            if any(r.condition in ("drop", "rise") for r in rules.values())
            else None
        )
        seen = Observation(
            watched.metric,
            watched.labels,
            watched.id,
            when(time),
            value,
            expected,
            anomaly is not None,
            watched.calm,
        )

        def why(name: str, rule: Rule) -> tuple[str, dict[str, Any]]:
            found = anomaly or self._explain(series, watched, time, value, ())
            return found.sentence, found.to_dict()

        return settings.book.observe(
            seen, rules, settings.windows, related=lambda a, b: _correlation(series.get(a), series.get(b)), explain=why,
            quiet=now - seen.time > LIVE,
        )  # fmt: skip

    def _explain(
        self,
        series: Mapping[str, Watched],
        watched: Watched,
        time: float,
        value: float,
        drivers: Sequence[Driver],
    ) -> Explanation:
        verdict = watched.verdict
        with_it = sorted(
            {
                other.metric
                for other in series.values()
                if other is not watched
                and other.since is not None
                and abs(other.last - time) <= TOGETHER
            }
            - {watched.metric}
        )
        return explain(
            metric=watched.metric, value=value, time=time, score=verdict.score, surprise=verdict.surprise,
            signals=verdict.signals, band=watched.band(time) or watched.usual_range(), z=watched.z(), since=watched.since, with_it=with_it,
            drivers=drivers,
        )  # fmt: skip


def _correlation(a: Watched | None, b: Watched | None) -> float | None:
    """Of the last 60 points that two series have at the same times; None under 12, or
    where one is constant or not in memory.
    """
    if a is None or b is None:
        return None
    _, i, j = np.intersect1d(a.detector.times[-60:], b.detector.times[-60:], return_indices=True)
    if len(i) < 12:
        return None
    x, y = a.detector.values[-60:][i], b.detector.values[-60:][j]
    if x.std() < 1e-12 * (1 + abs(x).max()) or y.std() < 1e-12 * (1 + abs(y).max()):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _has(watched: Watched, time: float, value: float) -> bool:
    """Whether this very point was taken in before."""
    times = watched.detector.times
    place = int(np.searchsorted(times, time))
    return place < len(times) and times[place] == time and watched.detector.values[place] == value


def _load_forests(stored: Mapping[bytes, bytes]) -> dict[str, CombinationForest]:
    loaded = {name.decode(): load_forest(name.decode(), data) for name, data in stored.items()}
    return {group: forest for group, forest in loaded.items() if forest is not None}


def _point(event: Event, now: datetime) -> Point | None:
    """The event's point; None (and a line in the log) for one that cannot be taken,
    which must not hold up the others.
    """
    data = event.data if isinstance(event.data, Mapping) else {}
    known = {name: data[name] for name in ("metric", "value", "labels", "kind") if name in data}
    if str(known.get("metric", "")).startswith("shoal.variant."):
        return None  # the arms of experiments, which have guardrails of their own
    try:
        return parse_point({**known, "time": event.time}, now)
    except BadPoint as fault:
        log.info("metric event %s/%s: %s %s", event.source, event.id, fault.location, fault)
        return None
