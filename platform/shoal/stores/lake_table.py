"""One Delta table of a tenant, partitioned by the column `date` (YYYY-MM-DD).

Each write is one commit of the table's log, which readers see whole or not at all. Of
two writes that touch the same files one is refused, and is done again on what the other
left. A commit may set *marks*: numbers that the table keeps, which tell a repeated
write from a new one.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from shoal.contract.errors import Conflict, Unavailable

from .lake_location import LakeLocation
from .lake_schema import DATE, conform

T = TypeVar("T")

Rows: TypeAlias = pa.Table | pa.RecordBatchReader
Change: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch | None]
"""What takes the place of a batch of a table's rows; None where nothing changes."""
NO_MARKS: Mapping[str, tuple[int | None, int]] = {}

RETENTION_HOURS = 1
"""How long files that nothing refers to any more are kept for those who read them."""
CONFIGURATION = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": f"interval {RETENTION_HOURS} hours",
    "delta.deletedFileRetentionDuration": f"interval {RETENTION_HOURS} hours",
}
SMALL_FILE = 64 * 2**20
"""Bytes below which a file is merged with others of its day."""
MERGE_ROWS = 64 * 1024
"""Rows that are in memory together while files are merged."""
REWRITES = "rewrites"
ATTEMPTS = 20
"""How often a write is tried that others' writes conflict with."""
LONGEST_PAUSE = 1.0
"""Seconds."""
EMPTY_FOR = timedelta(days=1)
"""How long a table must have been empty before its folder is removed."""


class LakeTable:
    """Its methods block.

    They raise OSError when the disk or the object store fails, and Unavailable when a
    write conflicted with others' `ATTEMPTS` times.

    Args:
        location: Where the table is.
        statistics: The columns whose least and greatest values its log keeps; None for
            the first 32.
    """

    def __init__(self, location: LakeLocation, statistics: Sequence[str] | None = None) -> None:
        self.location = location
        self._configuration = dict(CONFIGURATION)
        if statistics is not None:
            self._configuration["delta.dataSkippingStatsColumns"] = ",".join(statistics)

    def append(
        self, rows: pa.Table, marks: Mapping[str, tuple[int | None, int]] = NO_MARKS
    ) -> None:
        """Add rows, which have the column `date`.

        Args:
            rows: The rows.
            marks: By name, what a mark is (None where it was never set), and becomes.

        Raises:
            Conflict: A mark is another: these rows, or others, have been added.
            Invalid: The rows do not fit the table's columns.
        """
        transactions = [Transaction(name, after) for name, (_, after) in marks.items()]

        def work() -> None:
            delta = self._open_or_create(rows)
            for name, (before, _) in marks.items():
                if delta.transaction_version(name) != before:
                    raise Conflict("another process has added rows meanwhile")
            self._write(delta, rows, transactions, mode="append")

        _with_retries(work)

    def replace(self, rows: pa.Table, day: date) -> None:
        """Replace a day's rows."""

        def work() -> None:
            if rows.num_rows or self._open() is not None:
                self._replace(self._open_or_create(rows), rows, day)

        _with_retries(work)

    def marks(self, names: Sequence[str]) -> dict[str, int | None]:
        """Marks by name; None for those that were never set."""
        delta = self._open()
        return {name: None if delta is None else delta.transaction_version(name) for name in names}

    def read(
        self, first: date | None, last: date | None, columns: Sequence[str] | None
    ) -> pa.Table | None:
        """The rows of a range of days, both included, the oldest files first."""
        delta = self._open()
        rows = None if delta is None else self._dataset(delta, first, last)
        if rows is None:
            return None
        table = rows.to_table(columns=None if columns is None else list(columns))
        return table if table.num_rows else None

    def files(self, first: date | None = None, last: date | None = None) -> list[str]:
        """The paths of a range of days' files, oldest first."""
        delta = self._open()
        paths = [] if delta is None else _paths(delta, first, last)
        return [f"{self.location.path}/{path}" for path in paths]

    def days(self) -> list[date]:
        """The days that have files, oldest first."""
        delta = self._open()
        return [] if delta is None else sorted({_day(path) for path in _paths(delta)})

    def delete(self, before: date | None) -> int:
        """Delete the days before a date, or all; return how many files there were."""

        def work() -> int:
            delta = self._open()
            if delta is None:
                return 0
            seen = delta.version()
            done = delta.delete(
                None if before is None else f"{DATE} < '{before}'",
                commit_properties=CommitProperties(app_transactions=[_rewrite(delta)]),
            )
            self._sync(delta, seen)
            self._vacuum()
            return int(done["num_removed_files"])

        return _with_retries(work)

    def batches(self, day: date) -> Iterator[pa.RecordBatch]:
        """A day's rows, `MERGE_ROWS` of them at most at a time."""
        delta = self._open()
        rows = None if delta is None else self._dataset(delta, day, day)
        if rows is not None:
            yield from rows.to_batches(batch_size=MERGE_ROWS)

    def rewrite(self, change: Change, days: Sequence[date]) -> int:
        """Change or remove rows of some days, and delete the files that had them.

        Each day is one commit. The folder of the table's log keeps for an hour what the
        log says of the old files.

        Args:
            change: It may be called again for the same rows.
            days: The days to look at.

        Returns:
            How many rows fewer there are.
        """
        removed = sum(_with_retries(partial(self._rewrite_day, day, change)) for day in days)
        _with_retries(self._vacuum)
        return removed

    def _rewrite_day(self, day: date, change: Change) -> int:
        delta = self._open()
        rows = None if delta is None else self._dataset(delta, day, day)
        if delta is None or rows is None:
            return 0
        before = after = 0

        def changed() -> Iterator[pa.RecordBatch]:
            nonlocal before, after
            for batch in rows.to_batches(batch_size=MERGE_ROWS):
                new = change(batch)
                new = batch if new is None else new
                before, after = before + batch.num_rows, after + new.num_rows
                yield new

        if all(change(batch) is None for batch in rows.to_batches(batch_size=MERGE_ROWS)):
            return 0
        self._replace(delta, pa.RecordBatchReader.from_batches(rows.schema, changed()), day)
        return before - after

    def _vacuum(self) -> None:
        """Delete the files that commits have removed, at once."""
        if (delta := self._open()) is not None:
            # Not `full`: that would delete files whose commit is to come.
            delta.vacuum(0, dry_run=False, enforce_retention_duration=False)

    def compact(self, least: int) -> int:
        """Merge the small files of each day with at least `least` of them.

        Also deletes the files that nothing has referred to for `RETENTION_HOURS`, what
        killed writers left among them.

        Returns:
            How many files were deleted.
        """
        delta = self._open()
        if delta is None:
            return 0
        sizes = [(_day(row["path"]), row["size_bytes"]) for row in _actions(delta)]
        small = Counter(day for day, size in sizes if size < SMALL_FILE)
        for day, count in small.items():
            if count >= max(least, 2):
                with suppress(Unavailable):  # it is written to all the time: another time
                    _with_retries(partial(self._merge, day))
        return _with_retries(self._clean)

    def _merge(self, day: date) -> None:
        # Not Delta's `optimize`: of two at once it (1.6) accepts both, and each row is
        # there twice.
        delta = self._open()
        if delta is not None and (rows := self._dataset(delta, day, day)) is not None:
            self._replace(delta, rows.scanner(batch_size=MERGE_ROWS).to_reader(), day)

    def _clean(self) -> int:
        """Delete files that nothing refers to; return how many."""
        delta = self._open()
        if delta is None:
            return 0
        seen = delta.version()
        gone = delta.vacuum(
            RETENTION_HOURS, dry_run=False, enforce_retention_duration=False, full=True
        )
        delta.create_checkpoint()
        self._sync(delta, seen)
        delta.cleanup_metadata()
        if not delta.file_uris() and _is_idle(delta):
            self.location.drop()
        return len(gone)

    def _open(self) -> DeltaTable | None:
        with suppress(TableNotFoundError):
            return DeltaTable(self.location.uri, storage_options=self.location.options)
        return None

    def _open_or_create(self, rows: pa.Table) -> DeltaTable:
        delta = self._open()
        if delta is None:
            try:
                delta = DeltaTable.create(
                    self.location.uri,
                    schema=conform(rows, None).schema,
                    mode="ignore",
                    partition_by=[DATE],
                    configuration=self._configuration,
                    storage_options=self.location.options,
                )
            except TableNotFoundError as error:
                raise OSError(str(error)) from error
            self._sync(delta, -1)
        return delta

    def _dataset(
        self, delta: DeltaTable, first: date | None, last: date | None
    ) -> ds.Dataset | None:
        """The rows of a range of days; None where there are no files."""
        root, paths = self.location.path, _paths(delta, first, last)
        if not paths:
            return None
        # Not Delta's own dataset: its file system is in Python, and pyarrow's threads,
        # which call it, can abort the process at its end.
        return ds.dataset(
            [f"{root}/{path}" for path in paths],
            schema=pa.schema(delta.schema().to_arrow()),
            format="parquet",
            filesystem=self.location.filesystem,
            partitioning=ds.partitioning(pa.schema([(DATE, pa.string())]), flavor="hive"),
            partition_base_dir=root,
        )

    def _replace(self, delta: DeltaTable, rows: Rows, day: date) -> None:
        self._write(delta, rows, [_rewrite(delta)], mode="overwrite", predicate=f"{DATE} = '{day}'")

    def _write(
        self, delta: DeltaTable, rows: Rows, marks: Sequence[Transaction], **options: Any
    ) -> None:
        seen = delta.version()
        known: pa.Schema | None = pa.schema(delta.schema().to_arrow())
        options |= {"schema_mode": "merge"}
        if not delta.file_uris():  # then its columns may be others than before
            known, options = None, {"mode": "overwrite", "schema_mode": "overwrite"}
        write_deltalake(
            delta,
            conform(rows, known) if isinstance(rows, pa.Table) else rows,
            writer_properties=_writer(),
            commit_properties=CommitProperties(app_transactions=list(marks)),
            **options,
        )
        self._sync(delta, seen)

    def _sync(self, delta: DeltaTable, seen: int) -> None:
        """Have the commits after version `seen` outlive a power cut, on a disk."""
        root = self.location.path
        if not self.location.is_local:
            return
        paths, folders = set(), {os.path.dirname(root), root, f"{root}/_delta_log"}
        for version in range(seen + 1, delta.version() + 1):
            commit = f"{root}/_delta_log/{version:020}"
            paths |= {f"{commit}.json", f"{commit}.checkpoint.parquet"}
            with suppress(FileNotFoundError), open(f"{commit}.json", "rb") as lines:
                added = [action["add"] for line in lines if "add" in (action := orjson.loads(line))]
                paths |= {f"{root}/{unquote(add['path'])}" for add in added}
        folders |= {os.path.dirname(path) for path in paths}
        for path in [*paths, f"{root}/_delta_log/_last_checkpoint", *folders]:
            with suppress(FileNotFoundError):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)


def _with_retries(work: Callable[[], T]) -> T:
    for attempt in range(ATTEMPTS):
        try:
            return work()
        except CommitFailedError:
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, LONGEST_PAUSE)))
        except DeltaError as error:
            raise OSError(str(error)) from error
    raise Unavailable("too many writes to one table of the lake at once", retry_after=5)


def _rewrite(delta: DeltaTable) -> Transaction:
    """The mark of commits that remove files: of two at once, one is refused."""
    return Transaction(REWRITES, (delta.transaction_version(REWRITES) or 0) + 1)


def _writer() -> WriterProperties:
    return WriterProperties(compression="ZSTD", compression_level=3)


def _actions(delta: DeltaTable) -> list[dict[str, Any]]:
    table = pa.table(delta.get_add_actions(flatten=True))
    return [
        dict(row) for row in table.select(["path", "size_bytes", "modification_time"]).to_pylist()
    ]


def _day(path: str) -> date:
    return date.fromisoformat(unquote(path).split("/", 1)[0].removeprefix(f"{DATE}="))


def _paths(delta: DeltaTable, first: date | None = None, last: date | None = None) -> list[str]:
    found = []
    for row in _actions(delta):
        path = unquote(row["path"])
        day = _day(path)
        if (first is None or day >= first) and (last is None or day <= last):
            found.append((day, row["modification_time"], path))
    return [path for _, _, path in sorted(found)]


def _is_idle(delta: DeltaTable) -> bool:
    last = max(commit["timestamp"] for commit in delta.history(1))
    return bool(time.time() - last / 1000 > EMPTY_FOR.total_seconds())
