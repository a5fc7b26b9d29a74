"""Parquet files by tenant and date, on a disk or on S3.

A file is named by what it covers: `<id>.parquet` is one append,
`<first>-<last>.parquet` replaces all files whose ids lie between (a compaction, or a
replacement, which begins at zero). Readers skip a file that another covers. So each
write, replacement or compaction takes effect with the rename of one finished file, and
a crash leaves nothing to undo.
"""

import asyncio
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from shoal.contract.errors import Invalid, Unavailable

from .configuration import StoreConfig
from .tenant_store import TenantStore

T = TypeVar("T")

TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
PART = re.compile(r"(\d{20}[0-9a-f]{8})(?:-(\d{20}[0-9a-f]{8}))?\.parquet")
ZERO = "0" * 28
EVENTS = "events"
"""The event log's archive. Only the log writes it; its files' ids are log positions."""

SETTLED = 600.0
"""Seconds until a file may be compacted, and a covered file deleted: by then nobody who
listed it still reads it.
"""


def part_id(nanoseconds: int, suffix: int | None = None) -> str:
    """28 characters that sort by time; unique without `suffix`."""
    return f"{nanoseconds:020d}{secrets.token_hex(4) if suffix is None else format(suffix, '08x')}"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of one day."""

    path: str
    first: str
    last: str
    written: float
    """Unix time, seconds."""

    @property
    def wide(self) -> bool:
        return self.first < self.last

    @property
    def settled(self) -> bool:
        """Whether no file in its range is still being written or read by others."""
        return max(self.written, int(self.last[:20]) / 1e9) < time.time() - SETTLED

    def covers(self, other: "Part") -> bool:
        return self.wide and self != other and self.first <= other.first and other.last <= self.last


def live(parts: Iterable[Part]) -> list[Part]:
    """The files that no other covers, oldest first."""
    parts = list(parts)
    wide = [part for part in parts if part.wide]
    return sorted((p for p in parts if not any(w.covers(p) for w in wide)), key=lambda p: p.last)


@lru_cache(maxsize=8)
def _filesystem(lake: str) -> tuple[pafs.FileSystem, str]:
    if "://" in lake:
        filesystem, path = pafs.FileSystem.from_uri(lake)
        return filesystem, str(path)
    return pafs.LocalFileSystem(), os.path.abspath(lake)


class TenantLake:
    """A tenant's folder in the lake; its methods block."""

    def __init__(self, lake: str, tenant: str) -> None:
        self.fs, root = _filesystem(lake)
        self.local = isinstance(self.fs, pafs.LocalFileSystem)
        self.root = f"{root.rstrip('/')}/{tenant}"

    def day(self, table: str, day: date) -> str:
        return f"{self.root}/{table}/date={date(day.year, day.month, day.day).isoformat()}"

    def parts(self, folder: str) -> list[Part]:
        """All files of a day, including covered ones."""
        found = []
        for info in self._list(folder):
            match = PART.fullmatch(info.base_name)
            if match:
                found.append(
                    Part(info.path, match[1], match[2] or match[1], (info.mtime_ns or 0) / 1e9)
                )
        return found

    def write(
        self, folder: str, rows: pa.Table, first: str | None = None, last: str | None = None
    ) -> str:
        """Write one file, whole or not at all; return its path.

        The bytes are made first: an object store has no rename, but an upload takes
        effect only once it is complete.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        data = sink.getvalue()
        last = last or part_id(time.time_ns())
        name = f"{last}.parquet" if first in (None, last) else f"{first}-{last}.parquet"
        path = f"{folder}/{name}"
        if self.local:
            _write_local(folder, name, data)
        else:
            with self.fs.open_output_stream(path) as stream:
                stream.write(data)
        return path

    def read(
        self, parts: Sequence[Part] | Sequence[str], columns: Sequence[str] | None = None
    ) -> list[pa.Table]:
        return [
            pq.read_table(
                p if isinstance(p, str) else p.path,
                filesystem=self.fs,
                columns=columns,
                partitioning=None,
            )
            for p in parts
        ]

    def names(self, folder: str) -> list[str]:
        return sorted(
            info.base_name for info in self._list(folder) if info.type == pafs.FileType.Directory
        )

    def days(self, table: str, start: date | None = None, end: date | None = None) -> list[date]:
        """The days from `start` to `end` that have a file, oldest first."""
        days = []
        for name in self.names(f"{self.root}/{table}"):
            with suppress(ValueError):
                day = date.fromisoformat(name.removeprefix("date="))
                if (
                    (start is None or day >= start)
                    and (end is None or day <= end)
                    and self.parts(self.day(table, day))
                ):
                    days.append(day)
        return days

    def exists(self) -> bool:
        """Whether the tenant has any files."""
        return bool(self._list(self.root))

    def drop(self, folder: str) -> int:
        """Delete a folder; return how many Parquet files it had."""
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        files = sum(1 for info in self.fs.get_file_info(selector) if info.path.endswith(".parquet"))
        with suppress(FileNotFoundError):
            self.fs.delete_dir(folder)
        return files

    def _list(self, folder: str) -> list[pafs.FileInfo]:
        return list(self.fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True)))


def _write_local(folder: str, name: str, data: pa.Buffer) -> None:
    os.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, f"{folder}/{name}")
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _table_name(table: str, writing: bool = False) -> str:
    if not isinstance(table, str) or not TABLE.fullmatch(table):
        raise Invalid("a table name is 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    if writing and table == EVENTS:
        raise Invalid("the table `events` is the event log's archive: append to the log instead")
    return table


def _check_rows(rows: pa.Table) -> pa.Table:
    if "date" in rows.column_names:
        raise Invalid("the column `date` is reserved for the lake")
    return rows


class LakeStore(TenantStore):
    """See `shoal.contract.stores.Lake`."""

    __slots__ = ()

    async def append(self, table: str, rows: pa.Table, day: date) -> str:
        folder = self._folder()
        return await run(folder.write, folder.day(_table_name(table, True), day), _check_rows(rows))

    async def replace(self, table: str, rows: pa.Table, day: date) -> str:
        folder, name = self._folder(), _table_name(table, True)

        def work() -> str:
            where = folder.day(name, day)
            before = folder.parts(where)
            path = folder.write(where, _check_rows(rows), first=ZERO)
            _sweep(folder, before)
            return path

        return await run(work)

    async def read(
        self,
        table: str,
        start: date | None = None,
        end: date | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table | None:
        folder, name = self._folder(), _table_name(table)
        wanted = None if columns is None else [c for c in columns if c != "date"]

        def work() -> pa.Table | None:
            tables = []
            for day in folder.days(name, start, end):
                for rows in folder.read(live(folder.parts(folder.day(name, day))), wanted):
                    tables.append(
                        rows.append_column(
                            "date", pa.array([day.isoformat()] * rows.num_rows, pa.string())
                        )
                    )
            if not sum(t.num_rows for t in tables):
                return None
            return pa.concat_tables(tables, promote_options="permissive")

        try:
            rows = await run(work)
        except Unavailable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            rows = await run(work)  # a file was compacted between listing and reading
        return rows if rows is None or columns is None else rows.select(list(columns))

    async def files(
        self, table: str, start: date | None = None, end: date | None = None
    ) -> list[str]:
        folder, name = self._folder(), _table_name(table)

        def work() -> list[str]:
            days = folder.days(name, start, end)
            return [part.path for day in days for part in live(folder.parts(folder.day(name, day)))]

        return await run(work)

    async def days(self, table: str) -> list[date]:
        return await run(self._folder().days, _table_name(table))

    async def tables(self) -> list[str]:
        folder = self._folder()
        return [n for n in await run(folder.names, folder.root) if TABLE.fullmatch(n)]

    async def delete(self, table: str, before: date | None = None) -> int:
        folder, name = self._folder(), _table_name(table)

        def work() -> int:
            if before is None:
                return folder.drop(f"{folder.root}/{name}")
            return sum(
                folder.drop(folder.day(name, day)) for day in folder.days(name) if day < before
            )

        return await run(work)

    async def compact(self, table: str, least: int = 8) -> int:
        """Merge the small files of each day that has at least `least` of them.

        Also deletes covered files and what killed writers left.

        Returns:
            How many files were deleted.
        """
        folder, name = self._folder(), _table_name(table)
        return await run(_compact, folder, name, least)

    def filesystem(self) -> pafs.FileSystem:
        return self._folder().fs

    def _folder(self) -> TenantLake:
        return TenantLake(self._config.lake, self._tenant)


def _sweep(folder: TenantLake, parts: list[Part]) -> int:
    """Delete files that a settled file covers; return how many."""
    wide = [part for part in parts if part.wide and part.settled]
    gone = 0
    for part in parts:
        if any(w.covers(part) for w in wide):
            with suppress(FileNotFoundError):
                folder.fs.delete_file(part.path)
                gone += 1
    return gone


def _compact(folder: TenantLake, table: str, least: int) -> int:
    gone = 0
    for day in folder.days(table):
        where = folder.day(table, day)
        parts = folder.parts(where)
        gone += _sweep(folder, parts)
        settled = [part for part in live(parts) if part.settled]
        if len(settled) >= max(least, 2):
            rows = pa.concat_tables(folder.read(settled), promote_options="permissive")
            folder.write(where, rows, first=min(p.first for p in settled), last=settled[-1].last)
        if folder.local:
            _clear(where)
    return gone


def _clear(folder: str) -> None:
    """Delete the temporary files of killed writers."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if (
                entry.name.startswith(".")
                and entry.name.endswith(".tmp")
                and time.time() - entry.stat().st_mtime > SETTLED
            ):
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)


async def run(work: Callable[..., T], *args: Any) -> T:
    """Run blocking work on a lake in a thread.

    Raises:
        Unavailable: The disk or the object store failed.
    """
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        raise Unavailable(
            f"the lake is unavailable: {error.strerror or error}", retry_after=5
        ) from error


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's files; return how many Parquet files there were."""

    def drop() -> int:
        lake = TenantLake(config.lake, tenant)
        return lake.drop(lake.root)

    return int(await run(drop))


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any files."""
    return bool(await run(lambda: TenantLake(config.lake, tenant).exists()))
