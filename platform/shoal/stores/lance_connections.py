"""Open tables of LanceDB, of which a process keeps the ones last used."""

import asyncio
import fcntl
import os
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import pyarrow as pa

from shoal.contract.errors import InternalError, NotFound, ShoalError, Unavailable
from shoal.contract.vectors import VectorSchema

from .lake import run
from .lake_location import LakeLocation
from .lance_tables import vector_schema

os.environ.setdefault("LANCE_LOG", "error")  # it prints conflicts that it settles

import lancedb

T = TypeVar("T")

TABLES = 256
"""Open tables of a process."""
INDEX_CACHE, METADATA_CACHE = 256 << 20, 64 << 20
"""Bytes of what a process keeps of indexes and files of all tables."""
LOCK_WAIT = 0.0005
"""Seconds until a writer looks again whether another has finished."""
ATTEMPTS = 12
"""Until a write that others get ahead of gives up."""
LOCKS = WRITE_LOCK, UPKEEP_LOCK = ".write", ".upkeep"
"""The ends of the names of files that writers lock."""
POINTER = ".collection"
"""The end of the name of a file that has the name of a collection's folder."""
MANIFEST = ".manifest"
"""The end of the name of a file of Lance that has a version of a table."""
MISSING = ("/_versions", "was not found")
"""Errors with this are about tables that do not exist."""
CONFLICT = ("conflict", "concurrent", "preempted", "Retryable")
IO = ("IO", "io error", "No space", "os error", "LanceError(IO)", "ObjectStore", "object store")


@dataclass(slots=True)
class OpenTable:
    """A table, and the columns that it had when it was opened."""

    table: Any
    schema: VectorSchema
    path: str
    is_local: bool
    upkeep: Any = field(default=None)
    facts: tuple[Any, int, bool] | None = None
    """A version of the table, and what `index_facts` says of it."""


_tables: "OrderedDict[tuple[str, str], OpenTable]" = OrderedDict()


@cache
def _session() -> lancedb.Session:
    return lancedb.Session(INDEX_CACHE, METADATA_CACHE)


async def connect(location: LakeLocation) -> Any:
    """A database in this folder. Every read sees what was committed before it."""
    options = {key.lower(): value for key, value in location.options.items()}
    return await lancedb.connect_async(
        location.path if location.is_local else location.uri,
        read_consistency_interval=timedelta(0),
        storage_options=options or None,
        session=_session(),
    )


async def open_table(location: LakeLocation, name: str) -> OpenTable:
    """A collection's table.

    Raises:
        NotFound: There is none.
    """
    key = (location.uri, name)
    found = _tables.get(key)
    if found is None:
        folder = await run(lambda: (location / f"{name}{POINTER}").read())
        if folder is None:
            raise NotFound(f"no collection {name}")
        table = await (await connect(location)).open_table(folder.decode())
        path = f"{location.path}/{folder.decode()}.lance"
        found = _tables[key] = OpenTable(
            table, vector_schema(await table.schema()), path, location.is_local
        )
    _tables.move_to_end(key)
    while len(_tables) > TABLES:
        _tables.popitem(last=False)
    return found


async def latest_version(opened: OpenTable) -> Any:
    """What identifies the version that a read sees which begins now.

    In a folder it is the first and the last name of Lance's files of versions: LanceDB
    itself takes ten times as long to look.
    """
    if not opened.is_local:
        return await opened.table.version()
    names = [name for name in os.listdir(f"{opened.path}/_versions") if name.endswith(MANIFEST)]
    return min(names), max(names)


async def create_table(
    location: LakeLocation, name: str, columns: pa.Schema, indexes: Mapping[str, Any]
) -> None:
    """Create a collection's table with its indexes, if there is none.

    Each has a folder of its own, whose name is in a file. What a process keeps of a
    table's files would otherwise be taken for those of one made in the same place.
    """
    folder = f"{name}-{os.urandom(8).hex()}"
    try:
        table = await (await connect(location)).create_table(folder, schema=columns)
        for column, index in indexes.items():
            await table.create_index(column, config=index)
    except (RuntimeError, ValueError, OSError) as error:
        raise translated(error) from error
    if not await run((location / f"{name}{POINTER}").create, folder.encode()):
        await run((location / f"{folder}.lance").drop)


async def drop_table(location: LakeLocation, name: str) -> None:
    """Delete a collection's table with its files."""
    forget_table(location, name)
    pointer = location / f"{name}{POINTER}"
    folder = await run(pointer.read)
    if folder is None:
        raise NotFound(f"no collection {name}")
    await run(pointer.remove)
    files = location / f"{folder.decode()}.lance"
    await drop_files(files)
    for lock in LOCKS if location.is_local else ():
        await run(LakeLocation(files.uri + lock, files.path + lock, files.filesystem, {}).remove)


async def drop_files(location: LakeLocation) -> None:
    """Delete a folder, again where a late writer made files meanwhile."""
    for attempt in range(ATTEMPTS):
        with suppress(Unavailable) if attempt < ATTEMPTS - 1 else nullcontext():
            await run(location.drop)
            if not await run(location.exists):
                return
        await asyncio.sleep(0.02 * 2 ** min(attempt, 6))


async def table_names(location: LakeLocation) -> list[str]:
    """The collections in a folder."""
    files = await run(location.files)
    return [file.removesuffix(POINTER) for file in files if file.endswith(POINTER)]


def forget_table(location: LakeLocation, name: str) -> None:
    """Open the table anew when it is next used."""
    _tables.pop((location.uri, name), None)


def forget_tables(location: LakeLocation) -> None:
    """As `forget_table`, for all in this folder."""
    for key in [key for key in _tables if key[0] == location.uri]:
        _tables.pop(key, None)


async def use_table(
    location: LakeLocation, name: str, work: Callable[[OpenTable], Awaitable[T]]
) -> T:
    """Do something with a table, again where another writer got ahead of it.

    Raises:
        NotFound: There is no such table.
        Unavailable: The disk or the object store failed, or there are too many writers.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await work(await open_table(location, name))
        except ShoalError:
            raise
        except (RuntimeError, ValueError, OSError) as error:
            text = str(error)
            forget_table(location, name)
            conflict = any(word in text for word in CONFLICT)
            if attempt >= (ATTEMPTS if conflict else 2):
                if any(word in text for word in MISSING):
                    raise NotFound(f"no collection {name}") from error
                raise translated(error) from error
        await asyncio.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 7)))


@asynccontextmanager
async def write_lock(opened: OpenTable) -> AsyncIterator[bool]:
    """Be the only one to write a table in a folder, of all processes; not on S3.

    Yields:
        Whether it is so. LanceDB's writers that look ids up in an index while others
        write and the index is renewed may insert an id twice.
    """
    if not opened.is_local:
        yield False
        return
    descriptor = os.open(f"{opened.path}{WRITE_LOCK}", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        wait = LOCK_WAIT
        while not _try_lock(descriptor):
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, 20 * LOCK_WAIT)
        yield True
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def translated(error: Exception) -> ShoalError:
    """An error of LanceDB as one of Shoal."""
    text = str(error)
    if isinstance(error, OSError) or any(word in text for word in (*IO, *CONFLICT)):
        return Unavailable("the vectors store is unavailable", retry_after=5)
    return InternalError(f"LanceDB: {text[:300]}")
