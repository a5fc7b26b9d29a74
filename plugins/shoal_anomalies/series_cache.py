"""The series and forests that a worker holds in memory, read from Redis when needed."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping

from shoal import TenantContext

from . import keys
from .alert_state import BatchWrites
from .multivariate import CombinationForest
from .parameters import AnomalyParameters
from .points import Point
from .series_state import SeriesState, restore_series
from .stored_models import load_forest, load_season
from .stored_series import StoredSeries, load_series

log = logging.getLogger("shoal.anomalies")

MAX_SERIES = 20_000  # per tenant
MAX_CACHED = 4_000  # series in memory, of all tenants


class SeriesCache:
    """The most recently used series of all tenants, and all tenants' forests."""

    def __init__(self) -> None:
        self._series: OrderedDict[tuple[str, str], SeriesState] = OrderedDict()
        self._forests: dict[str, dict[str, CombinationForest]] = {}
        self._fitted_at: dict[str, bytes | None] = {}

    def __len__(self) -> int:
        return len(self._series)

    def of_tenant(self, tenant: str) -> dict[str, SeriesState]:
        """The tenant's series in memory, by id."""
        return {series: state for (owner, series), state in self._series.items() if owner == tenant}

    def forests(self, tenant: str) -> Mapping[str, CombinationForest]:
        """The tenant's forests, by group of series."""
        return self._forests[tenant]

    def evict(self, tenant: str, series: Iterable[str]) -> None:
        """Remove series from memory; the next `load` reads them again."""
        for name in series:
            self._series.pop((tenant, name), None)

    async def reload_models(self, ctx: TenantContext, fitted_at: bytes | None) -> None:
        """Read the tenant's seasons and forests if they were fitted since last time."""
        if fitted_at == self._fitted_at.get(ctx.tenant) and ctx.tenant in self._forests:
            return
        stored = await ctx.stores.online.hgetall(keys.FORESTS)
        self._forests[ctx.tenant] = await asyncio.to_thread(_load_forests, stored)
        cached = self.of_tenant(ctx.tenant)
        seasons = await ctx.stores.online.hmget(keys.SEASONS, list(cached)) if cached else []
        for (name, state), season in zip(cached.items(), seasons, strict=True):
            state.model = load_season(name, season)
        self._fitted_at[ctx.tenant] = fitted_at

    async def load(
        self,
        ctx: TenantContext,
        wanted: Mapping[str, Point],
        writes: BatchWrites,
        others: Collection[str] = (),
    ) -> dict[str, SeriesState]:
        """The tenant's series in memory, after reading the wanted ones.

        The result is a dict of its own: other tenants' batches may evict the series
        from memory while this batch is scored in a thread.

        Args:
            ctx: The tenant.
            wanted: A point of each wanted series, by series id. New series beyond
                `MAX_SERIES` are left out.
            writes: New series are added to it.
            others: Ids of series to read besides, where they are known.
        """
        if not wanted:
            return {}
        names = [*wanted, *others]
        infos = dict(zip(names, await ctx.stores.online.hmget(keys.SERIES, names), strict=True))
        series = self.of_tenant(ctx.tenant)
        if any(info is None and name in series for name, info in infos.items()):
            # The tenant or the series was erased since, so nothing in memory is valid.
            self.evict(ctx.tenant, series)
            series = {}
        missing = {
            name: info
            for name, info in infos.items()
            if name not in series and (name in wanted or load_series(name, info) is not None)
        }
        if missing:
            series |= await _read_series(ctx, missing, wanted, writes)
        settings = ctx.parameters(AnomalyParameters).settings()
        for name in names:
            if name in series:
                series[name].detector.settings = settings
                self._series[ctx.tenant, name] = series[name]
                self._series.move_to_end((ctx.tenant, name))
        while len(self._series) > max(MAX_CACHED, len(names)):
            self._series.popitem(last=False)
        return series


async def _read_series(
    ctx: TenantContext,
    infos: Mapping[str, bytes | None],
    wanted: Mapping[str, Point],
    writes: BatchWrites,
) -> dict[str, SeriesState]:
    """Read series (id → stored info, None for new ones) from Redis."""
    settings = ctx.parameters(AnomalyParameters).settings()
    pipe = ctx.stores.online.pipeline()
    names = list(infos)
    pipe.hmget(keys.STATES, names).hmget(keys.READINGS, names).hmget(keys.SEASONS, names)
    pipe.hlen(keys.SERIES)
    for name in names:
        pipe.get(keys.recent_points(name))
    states, readings, seasons, count, *points = await pipe.execute()
    found = {}
    stored = zip(names, states, readings, seasons, points, strict=True)
    for name, state, read, season, packed in stored:
        info = load_series(name, infos[name])
        if info is None:
            point = wanted[name]
            if infos[name] is None and count >= MAX_SERIES:
                log.warning(
                    "%s has %d series, the maximum; points of %s are ignored",
                    ctx.tenant,
                    count,
                    point.metric,
                )
                continue
            count += infos[name] is None
            info = StoredSeries.of(point)
            writes.series[name] = info.to_bytes()
        found[name] = await asyncio.to_thread(
            restore_series, name, info, state, packed, read, settings, load_season(name, season)
        )
    return found


def _load_forests(stored: Mapping[bytes, bytes]) -> dict[str, CombinationForest]:
    loaded = {name.decode(): load_forest(name.decode(), data) for name, data in stored.items()}
    return {group: forest for group, forest in loaded.items() if forest is not None}
