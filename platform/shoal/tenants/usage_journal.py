"""Counts that survive the end of a process, in a file that it alone writes.

A count is written before the request that it counts is answered. The file is not
synced: what a process wrote survives its end, a SIGKILL too, but not the machine's.
While the process lives it holds a lock on the file; a file without one belongs to a
process that ended, and any other on the machine may collect it.

A line is 256 bytes: the count in 20 digits, day, capability, meter, tenant. A page of
memory holds whole lines, so a kill never leaves half of one.
"""

import fcntl
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

log = logging.getLogger(__name__)

LINE = 256
BLANK = b" " * (LINE - 1) + b"\n"
SUFFIX = ".usage"
_LINE = re.compile(r"(\d{20}) (\d{4}-\d\d-\d\d) (\S+) (\S+) (\S+) *\n")

TenantDay = tuple[str, str]
"""A tenant, and a day such as `2026-11-28`."""
Counts = Mapping[tuple[str, str], int]
"""By capability and meter."""


class _Line:
    __slots__ = ("count", "place", "text")

    def __init__(self, text: bytes, place: int) -> None:
        self.count, self.text, self.place = 0, text, place


class UsageJournal:
    """The counts of this process. May be used by several threads.

    Args:
        folder: Where its file is created, with the first count.

    Attributes:
        id: Names the journal and its file; no other ever has the same.
        changed: The days that were counted in since the caller last cleared this.
    """

    def __init__(self, folder: Path) -> None:
        self.id = uuid4().hex
        self.changed: set[TenantDay] = set()
        self._path = folder / (self.id + SUFFIX)
        self._counts: dict[TenantDay, dict[tuple[str, str], _Line]] = {}
        self._lines = 0
        self._file: int | None = None
        self._failed = False
        self._lock = threading.Lock()

    def add(self, tenant: str, day: str, capability: str, meter: str, count: int) -> None:
        with self._lock:
            of_day = self._counts.get((tenant, day))
            if of_day is None:
                of_day = self._counts[tenant, day] = {}
            line = of_day.get((capability, meter))
            if line is None:
                text = f" {day} {capability} {meter} {tenant}".ljust(LINE - 21) + "\n"
                line = of_day[capability, meter] = _Line(text.encode(), self._lines * LINE)
                self._lines += 1
            line.count += count
            self.changed.add((tenant, day))
            try:
                if self._file is None:
                    self._file = self._create()
                os.pwrite(self._file, b"%020d" % line.count + line.text, line.place)
            except OSError as error:  # it is counted in memory nevertheless
                if not self._failed:
                    log.error("usage cannot be written to %s: %s", self._path, error)
                self._failed = True

    def tenants(self) -> set[str]:
        """The tenants that were counted for."""
        with self._lock:
            return {tenant for tenant, _ in self._counts}

    def forget(self, tenant: str) -> None:
        """Remove all counts of an erased tenant, from the file too."""
        with self._lock:
            for pair in [pair for pair in self._counts if pair[0] == tenant]:
                for line in self._counts.pop(pair).values():
                    if self._file is not None:
                        os.pwrite(self._file, BLANK, line.place)
                self.changed.discard(pair)

    def counts(self, tenant: str, day: str) -> Counts:
        """What was counted so far."""
        with self._lock:
            of_day = self._counts.get((tenant, day), {})
            return {key: line.count for key, line in of_day.items()}

    def delete(self) -> None:
        """Remove the file, once its counts are elsewhere."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        self.release()

    def release(self) -> None:
        """Leave the file to whoever collects it."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _create(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")  # that nobody collects, until it is locked
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        temporary.rename(self._path)
        return file


def abandoned_journals(folder: Path) -> Iterator[Path]:
    """The journals in a folder whose process has ended."""
    for path in sorted(folder.glob("*" + SUFFIX)):
        with _locked(path) as is_free:
            if is_free:
                yield path


def read_journal(path: Path) -> dict[TenantDay, dict[tuple[str, str], int]]:
    """The counts in a journal's file."""
    found: dict[TenantDay, dict[tuple[str, str], int]] = {}
    text = path.read_text("utf-8", "replace")
    for start in range(0, len(text), LINE):
        if match := _LINE.fullmatch(text[start : start + LINE]):
            count, day, capability, meter, tenant = match.groups()
            found.setdefault((tenant, day), {})[capability, meter] = int(count)
    return found


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a journal's lock; False where its process or another collector has it."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path.exists()
    except BlockingIOError:
        yield False
    finally:
        os.close(file)
