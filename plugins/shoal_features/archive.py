"""The archive of a tenant's events: the lake, and the end of the log."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from .aggregation import open_engine
from .extraction import event_rows_sql
from .offline import ParquetFiles, utc_day
from .views import View

TABLE = "events"
EVENT_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "type": pa.string(),
        "time": pa.timestamp("us", "UTC"),
        "subject": pa.string(),
        "data": pa.string(),
        "position": pa.string(),
    }
)
"""The columns of the lake's table `events` that are read here."""

ACCEPTED_MS = "CAST(split_part(position, '-', 1) AS BIGINT)"
"""SQL for the millisecond of an event's acceptance, which its position begins with."""


@dataclass(frozen=True)
class Archive(ParquetFiles):
    """A tenant's events, some of them perhaps twice.

    Attributes:
        tail: Events of the log that are not in the files yet, as `EVENT_SCHEMA`.
    """

    tail: pa.Table | None = None

    def relation(self, con: duckdb.DuckDBPyConnection, name: str = "archive") -> str:
        """Make the events available to SQL; returns what to select from."""
        tail = self.tail if self.tail is not None else EVENT_SCHEMA.empty_table()
        con.register(f"{name}_tail", tail)
        if not self.paths:
            return f"{name}_tail"
        files = super().relation(con, name)
        return f"(SELECT * FROM {files} UNION ALL BY NAME SELECT * FROM {name}_tail)"

    def count(self) -> int:
        """How many events, duplicates included."""
        return self.row_count() + (self.tail.num_rows if self.tail else 0)

    def events_of(self, view: View, entities: Sequence[str]) -> pa.Table:
        """The events that a view reads of some entities, as `EVENT_SCHEMA`."""
        with open_engine() as con:
            con.register("wanted", pa.table({"entity": pa.array(entities, pa.string())}))
            relation = self.relation(con)
            own = event_rows_sql(view, relation)
            table = con.sql(
                f"SELECT {', '.join(EVENT_SCHEMA.names)} FROM {relation}"
                f" WHERE source || chr(31) || id IN (SELECT member FROM ({own})"
                f" WHERE entity IN (SELECT entity FROM wanted))"
            )
            return table.to_arrow_table().cast(EVENT_SCHEMA)

    def batches(self, size: int) -> Iterator[pa.RecordBatch]:
        """The events in batches of at most `size`."""
        columns = EVENT_SCHEMA.names
        if self.paths:
            yield from self.dataset().to_batches(columns=columns, batch_size=size)
        if self.tail is not None:
            yield from self.tail.select(columns).to_batches(max_chunksize=size)


async def open_archive(
    stores: Any, since: datetime | None = None, until: datetime | None = None
) -> Archive:
    """The events that happened from the day of `since` to the day of `until`."""
    lake = stores.lake
    everything = Archive(await lake.files(TABLE), lake.filesystem())
    days = await lake.files(
        TABLE, utc_day(since) if since else None, utc_day(until) if until else None
    )
    after = "0"
    if everything.paths:
        with open_engine() as con:
            query = f"SELECT max({ACCEPTED_MS}) FROM {everything.relation(con)}"
            last = con.execute(query).fetchone()
        after = str(max((last[0] if last and last[0] else 1) - 1, 0))
    tail = [_event_columns(position, event) async for position, event in stores.events.read(after)]
    return Archive(days, lake.filesystem(), pa.Table.from_pylist(tail, EVENT_SCHEMA))


def accepted_until(relation: str, time: int) -> str:
    """What of an archive the log had accepted by a time (µs since 1970)."""
    return f"(SELECT * FROM {relation} WHERE {ACCEPTED_MS} <= {time // 1000})"


def _event_columns(position: str, event: Any) -> dict[str, Any]:
    return {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "subject": event.subject,
        "data": orjson.dumps(event.data).decode(),
        "position": position,
    }
