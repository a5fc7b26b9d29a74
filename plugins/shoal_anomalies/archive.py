"""The long-term store of series: an interface, and its implementation on the lake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

import numpy as np

from shoal import Stores

from . import recent_points
from .points import Labels
from .recent_points import SeriesPoints

TABLE = "metrics"


@dataclass(frozen=True, slots=True)
class Row:
    """One point to archive.

    time: epoch seconds. score: NaN if the point was not scored.
    """

    series: str
    metric: str
    labels: Labels
    time: float
    value: float
    score: float


class Archive(Protocol):
    """A tenant's long-term store of points."""

    async def write(self, rows: Sequence[Row]) -> None:
        """Add points. A point that was written twice is read once."""

    async def read(self, series: str, start: float, end: float) -> SeriesPoints:
        """One series from `start` (inclusive) to `end` (exclusive), epoch seconds."""

    async def read_all(
        self, start: float, end: float, only: Sequence[str] | None = None
    ) -> Mapping[str, SeriesPoints]:
        """Every series (or those in `only`) by id, if it has points in that time."""

    async def drop(self, before: date) -> int:
        """Delete whole days before a date.

        Returns:
            The number of partitions deleted; 0 where the store does not report it.
        """


class LakeArchive:
    """The lake's table `metrics`, partitioned by day.

    Columns: series, metric, time (epoch seconds), value, score.
    """

    def __init__(self, stores: Stores) -> None:
        self._lake = stores.lake

    async def write(self, rows: Sequence[Row]) -> None:
        import pyarrow as pa

        days: dict[date, list[Row]] = {}
        for row in rows:
            days.setdefault(datetime.fromtimestamp(row.time, UTC).date(), []).append(row)
        for day, of_day in sorted(days.items()):
            table = pa.table(
                {
                    "series": pa.array([r.series for r in of_day], pa.string()),
                    "metric": pa.array([r.metric for r in of_day], pa.string()),
                    "time": pa.array([r.time for r in of_day], pa.float64()),
                    "value": pa.array([r.value for r in of_day], pa.float64()),
                    "score": pa.array([r.score for r in of_day], pa.float32()),
                }
            )
            await self._lake.append(TABLE, table, day)

    async def read(self, series: str, start: float, end: float) -> SeriesPoints:
        return (await self.read_all(start, end, [series])).get(series, recent_points.NO_POINTS)

    async def read_all(
        self, start: float, end: float, only: Sequence[str] | None = None
    ) -> Mapping[str, SeriesPoints]:
        table = await self._table(start, end, only)
        if table is None:
            return {}
        table = table.combine_chunks()
        encoded = table["series"].combine_chunks().dictionary_encode()
        names, codes = encoded.dictionary.to_pylist(), np.asarray(encoded.indices)
        records = _records(table)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
        return {
            name: recent_points.merge_records(records[order[bounds[i] : bounds[i + 1]]]).between(
                start, end
            )
            for i, name in enumerate(names)
        }

    async def _table(self, start: float, end: float, only: Sequence[str] | None) -> Any:
        """Read day by day, so that a few series of many never load all of them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (start, end))
        wanted = None if only is None else pa.array(only, pa.string())
        tables = []
        for day in await self._lake.days(TABLE):
            if first <= day <= last:
                rows = await self._lake.read(
                    TABLE, day, day, columns=["series", "time", "value", "score"]
                )
                if rows is not None and wanted is not None:
                    rows = rows.filter(pc.is_in(rows["series"], value_set=wanted))
                if rows is not None and rows.num_rows:
                    tables.append(rows)
        return pa.concat_tables(tables) if tables else None

    async def drop(self, before: date) -> int:
        return await self._lake.delete(TABLE, before=before)


def _records(table: Any) -> Any:
    records = np.zeros(table.num_rows, recent_points.RECORD)
    for name in ("time", "value", "score"):
        records[name] = table[name].to_numpy()
    return records
