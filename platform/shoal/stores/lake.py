"""A tenant's Delta tables, on a disk or on S3."""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from shoal.contract.errors import Invalid, Unavailable

from .configuration import StoreConfig
from .lake_location import LakeLocation
from .lake_schema import with_date
from .lake_table import Change, LakeTable
from .tenant_store import TenantStore

T = TypeVar("T")

TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
EVENTS = "events"
"""The event log's archive. Only the log writes it."""


class TenantLake:
    """A tenant's folder in the lake; its methods block."""

    def __init__(self, lake: str, tenant: str) -> None:
        self.location = LakeLocation.of(lake) / tenant

    def table(self, name: str) -> LakeTable:
        # An event's data is long, and nothing is sought by its text.
        statistics = ("type", "time", "position") if name == EVENTS else None
        return LakeTable(self.location / name, statistics)

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        return [name for name in self.location.folders() if TABLE.fullmatch(name)]

    def tables_with_rows(self) -> list[str]:
        return [name for name in self.tables() if self.table(name).files()]

    def compact(self, least: int) -> int:
        """Compact all tables; return how many files were deleted."""
        return sum(self.table(name).compact(least) for name in self.tables())


def _table_name(table: str, writing: bool = False) -> str:
    if not isinstance(table, str) or not TABLE.fullmatch(table):
        raise Invalid("a table name is 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    if writing and table == EVENTS:
        raise Invalid("the table `events` is the event log's archive: append to the log instead")
    return table


def _plain(day: date) -> date:
    """A day without a time of day."""
    return day.date() if isinstance(day, datetime) else day


class LakeStore(TenantStore):
    """See `shoal.contract.stores.Lake`."""

    __slots__ = ()

    async def append(self, table: str, rows: pa.Table, day: date) -> None:
        to = self._table(table, writing=True)
        dated = with_date(rows, _plain(day).isoformat())
        if rows.num_rows:
            await run(to.append, dated)

    async def replace(self, table: str, rows: pa.Table, day: date) -> None:
        to, day = self._table(table, writing=True), _plain(day)
        await run(to.replace, with_date(rows, day.isoformat()), day)

    async def read(
        self,
        table: str,
        start: date | None = None,
        end: date | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table | None:
        source = self._table(table)
        try:
            return await run(source.read, start, end, columns)
        except Unavailable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # A file was deleted after the table's log had been read.
            return await run(source.read, start, end, columns)

    async def files(
        self, table: str, start: date | None = None, end: date | None = None
    ) -> list[str]:
        return await run(self._table(table).files, start, end)

    async def days(self, table: str) -> list[date]:
        return await run(self._table(table).days)

    async def tables(self) -> list[str]:
        return await run(self._lake().tables_with_rows)

    async def delete(self, table: str, before: date | None = None) -> int:
        return await run(self._table(table).delete, before)

    async def rewrite(
        self, table: str, change: Change, start: date | None = None, end: date | None = None
    ) -> int:
        to = self._table(table, writing=True)

        def work() -> int:
            days = to.days()
            return to.rewrite(change, [d for d in days if (start or d) <= d and d <= (end or d)])

        return await run(work)

    async def compact(self, table: str | None = None, least: int = 8) -> int:
        """Merge the small files of each day that has at least `least` of them.

        Also deletes the files that have been replaced for an hour, and what killed
        writers left.

        Args:
            table: The table; None for all.
            least: At least two.

        Returns:
            How many files were deleted.
        """
        of: TenantLake | LakeTable = self._lake() if table is None else self._table(table)
        return await run(of.compact, least)

    def filesystem(self) -> pafs.FileSystem:
        return self._lake().location.filesystem

    def _lake(self) -> TenantLake:
        return TenantLake(self._config.lake, self._tenant)

    def _table(self, name: str, writing: bool = False) -> LakeTable:
        return self._lake().table(_table_name(name, writing))


async def run(work: Callable[..., T], *args: Any) -> T:
    """Run blocking work on a lake in a thread.

    Raises:
        Unavailable: The disk or the object store failed.
    """
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        reason = f": {error.strerror}" if error.strerror else ""
        raise Unavailable(f"the lake is unavailable{reason}", retry_after=5) from error


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's files; return how many Parquet files there were."""
    return await run(lambda: TenantLake(config.lake, tenant).location.drop())


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any files."""
    return await run(lambda: TenantLake(config.lake, tenant).location.exists())


async def size(config: StoreConfig, tenant: str) -> int:
    """The bytes of a tenant's files."""
    return await run(lambda: TenantLake(config.lake, tenant).location.size())
