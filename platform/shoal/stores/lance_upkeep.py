"""What keeps a table fast: it merges files, indexes rows and deletes old files."""

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lancedb.index import IvfFlat, IvfRq, IvfSq

from .lance_connections import UPKEEP_LOCK, OpenTable, latest_version
from .lance_tables import VECTORS

logger = logging.getLogger(__name__)

WRITES = 16
"""Commits until a table is optimised."""
SHARE = 4
"""Times that an optimisation took, until the next may begin."""
KEEP = timedelta(seconds=60)
"""How long a reader may use a former version."""
LEAST_ROWS, FLAT_ROWS, BYTE_ROWS = 5_000, 20_000, 300_000
"""Rows from which vectors are indexed, and up to which by themselves and by bytes.

A search reads all of such an index, in memory: 100,000 vectors of 384 dimensions are
154 MB, and as bytes 38. Beyond, an index has a bit for each dimension.
"""
GROWTH = 4
"""Times as many rows as an index was made for, with which it is made anew."""
MANY_PARTS, MOST_PARTS = 8, 32
"""Parts of an index, each of rows that came later, with which it is made anew: where
the table has grown by a quarter, and in any case.
"""

_running: set[str] = set()
_tasks: "set[asyncio.Task[None]]" = set()


@dataclass(slots=True)
class Upkeep:
    """What a process knows of the work that a table needs."""

    writes: int = WRITES  # what others left behind is not known
    ended: float = 0.0
    took: float = 0.0


async def note_write(opened: OpenTable) -> None:
    """Count a commit; begin to optimise, behind the caller, where it is due."""
    state = opened.upkeep = opened.upkeep or Upkeep()
    state.writes += 1
    due = state.writes >= WRITES and time.monotonic() - state.ended >= SHARE * state.took
    if due and opened.path not in _running:
        task = asyncio.create_task(_optimize_quietly(opened))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def optimize_table(opened: OpenTable) -> bool:
    """Optimise a table, unless that is being done; return whether it was."""
    with _alone(opened.path, opened.is_local) as alone:
        if not alone:
            return False
        state = opened.upkeep = opened.upkeep or Upkeep()
        state.writes, began = 0, time.monotonic()
        try:
            await opened.table.optimize(cleanup_older_than=KEEP)
            await _index_vectors(opened.table)
        finally:
            state.ended = time.monotonic()
            state.took = state.ended - began
    return True


async def index_facts(opened: OpenTable) -> tuple[int, bool]:
    """How many rows a table has, tombstones included, and whether its vectors are
    indexed by themselves, or not at all, so that its distances are exact.
    """
    version = await latest_version(opened)
    if opened.facts is None or opened.facts[0] != version:
        rows = await opened.table.count_rows()
        kinds = [i.index_type for i in await opened.table.list_indices() if i.columns == [VECTORS]]
        opened.facts = version, rows, all(kind == "IvfFlat" for kind in kinds)
    return opened.facts[1:]


async def _optimize_quietly(opened: OpenTable) -> None:
    try:
        await optimize_table(opened)
    except (RuntimeError, ValueError, OSError) as error:
        # The next write tries again; searches are right without it.
        logger.info("optimising %s failed: %s", opened.path, str(error)[:300])


async def _index_vectors(table: Any) -> None:
    """Index the vectors anew where there are many more than when it was last done.

    The index's name says for how many rows it was made.
    """
    rows = await table.count_rows()
    indexes = [i for i in await table.list_indices() if i.columns == [VECTORS]]
    old = [index.name for index in indexes]
    made_for = max((int(name.rpartition("_")[2]) for name in old), default=0)
    parts = sum(index.num_segments or 1 for index in indexes)
    steps = (FLAT_ROWS, BYTE_ROWS)
    outgrown = rows >= GROWTH * made_for or any(made_for <= step < rows for step in steps)
    outgrown |= parts > MOST_PARTS or (parts > MANY_PARTS and rows >= 1.25 * made_for)
    if rows < LEAST_ROWS or not outgrown:
        return
    kind = IvfFlat if rows <= FLAT_ROWS else IvfSq if rows <= BYTE_ROWS else IvfRq
    config = kind(distance_type="cosine")
    made = f"vectors_{rows}"
    await table.create_index(VECTORS, config=config, name=made)  # in place of its namesake
    for name in set(old) - {made}:
        await table.drop_index(name)


@contextmanager
def _alone(path: str, is_local: bool) -> Iterator[bool]:
    """Whether nothing else optimises the table meanwhile; ends with the process."""
    if path in _running:
        yield False
        return
    _running.add(path)
    try:
        if not is_local:  # conflicts end one of two
            yield True
            return
        descriptor = os.open(f"{path}{UPKEEP_LOCK}", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)
    finally:
        _running.discard(path)
