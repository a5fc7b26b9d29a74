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

from lancedb.index import IvfFlat, IvfRq

from .lance_connections import UPKEEP_LOCK, OpenTable
from .lance_tables import VECTORS

logger = logging.getLogger(__name__)

WRITES = 16
"""Commits until a table is optimised."""
SHARE = 4
"""Times that an optimisation took, until the next may begin."""
KEEP = timedelta(seconds=60)
"""How long a reader may use a former version."""
LEAST_ROWS, EXACT_ROWS = 5_000, 200_000
"""Rows from which vectors are indexed, and up to which the index is exact."""
PARTITION_ROWS = 1_000
GROWTH = 4
"""Times as many rows as an index was made for, with which it is made anew."""

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
    old = [i.name for i in await table.list_indices() if i.columns == [VECTORS]]
    made_for = max((int(name.rpartition("_")[2]) for name in old), default=0)
    outgrown = rows >= GROWTH * made_for or made_for <= EXACT_ROWS < rows
    if rows < LEAST_ROWS or not outgrown:
        return
    config: IvfFlat | IvfRq = IvfRq(distance_type="cosine")
    if rows <= EXACT_ROWS:
        partitions = max(1, rows // PARTITION_ROWS)
        config = IvfFlat(distance_type="cosine", num_partitions=partitions)
    await table.create_index(VECTORS, config=config, name=f"vectors_{rows}")
    for name in old:
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
