"""Writes of rows to Milvus, each in its turn.

Milvus has no conditional upsert. So the versions that are there are read, as of the
last write that was ended, by the one process whose turn it is.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .configuration import StoreConfig
from .milvus_filters import literal
from .milvus_places import Turn
from .milvus_rows import entities_of, stored_version, tombstone
from .milvus_schema import RETIRED, key_of
from .milvus_table import MilvusTable, batches


@dataclass(slots=True)
class Stored:
    """What there is of a row: its version ("" for none), and its entities' keys."""

    version: str = ""
    retired: bool = False
    entities: set[str] = field(default_factory=set)


async def write_rows(
    config: StoreConfig, tenant: str, name: str, turn: Turn, rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Write checked rows; return the ids with a version as great or greater."""
    rows = _greatest(rows)
    tables = _tables(config, tenant, name, turn)
    keys = {row["id"]: key_of(tenant, row["id"]) for row in rows}
    stored = await read_stored(tables[0], keys.values())
    refused, entities = [], []
    for row in rows:
        version, there = stored_version(row["version"]), stored.get(keys[row["id"]], Stored())
        if version and there.version and there.version >= version:
            refused.append(row["id"])
        else:
            entities.append(await asyncio.to_thread(entities_of, turn.place.schema, tenant, row))
    await replace_rows(turn, tables, stored, entities)
    return refused


async def retire_rows(
    config: StoreConfig, tenant: str, name: str, turn: Turn, versions: Mapping[str, str]
) -> list[str]:
    """Retire rows; return the ids of which there is a greater version."""
    tables = _tables(config, tenant, name, turn)
    keys = {row_id: key_of(tenant, row_id) for row_id in versions}
    stored = await read_stored(tables[0], keys.values())
    refused, entities = [], []
    for row_id, version in versions.items():
        there, new = stored.get(keys[row_id], Stored()), stored_version(version)
        if there.version > new:
            refused.append(row_id)
        elif there.version < new or not there.retired:
            entities.append([tombstone(turn.place.schema, tenant, row_id, version)])
    await replace_rows(turn, tables, stored, entities)
    return refused


async def delete_rows(
    config: StoreConfig, tenant: str, name: str, turn: Turn, ids: Iterable[str]
) -> None:
    """Delete rows, whether or not there are any."""
    keys = [key_of(tenant, row_id) for row_id in ids]
    for table in _tables(config, tenant, name, turn):
        stored = await read_stored(table, keys)
        gone = {pk for there in stored.values() for pk in there.entities}
        await turn.confirm()
        turn.written = max(turn.written, await table.delete(gone | {f"{key}00" for key in keys}))


async def forget_rows(config: StoreConfig, tenant: str, name: str, turn: Turn, before: str) -> int:
    """Forget the retirements with a smaller version; return how many."""
    wanted = f"kind == {RETIRED} and version < {literal(stored_version(before))}"
    tables = _tables(config, tenant, name, turn)
    forgotten = 0
    async for page in tables[0].pages(wanted, ["pk"]):
        keys = [entity["pk"] for entity in page]
        forgotten += len(keys)
        for table in tables if keys else ():
            await turn.confirm()
            turn.written = max(turn.written, await table.delete(keys))
    return forgotten


async def read_stored(table: MilvusTable, keys: Iterable[str]) -> dict[str, Stored]:
    """What there is of rows, by the digests of their keys."""
    found: dict[str, Stored] = {}
    for entity in await table.entities(list(keys), ["pk", "row", "kind", "version"]):
        there = found.setdefault(entity["row"], Stored())
        there.entities.add(entity["pk"])
        if entity["pk"].endswith("00"):
            there.version, there.retired = entity["version"], entity["kind"] == RETIRED
    return found


async def replace_rows(
    turn: Turn,
    tables: Sequence[MilvusTable],
    stored: Mapping[str, Stored],
    entities: Sequence[list[dict[str, Any]]],
) -> None:
    """Write the entities of whole rows, then delete what else there was of these.

    Readers leave out what does not have the stamp of its row's first entity.
    """
    for batch in batches(entities, turn.place.dimension):
        written, rows = {e["pk"] for e in batch}, {e["row"] for e in batch}
        for n, table in enumerate(tables):
            there = stored if n == 0 else await read_stored(table, rows)
            await turn.confirm()
            turn.written = max(turn.written, await table.upsert(batch))
            gone = {pk for row in rows & there.keys() for pk in there[row].entities} - written
            if gone:
                await turn.confirm()
                turn.written = max(turn.written, await table.delete(gone))


def _tables(config: StoreConfig, tenant: str, name: str, turn: Turn) -> list[MilvusTable]:
    """The table that is read, then the one to which it is being moved."""
    place = turn.place
    found = [MilvusTable.of(config, tenant, name, place, place.at, turn.since)]
    if place.to is not None:
        found.append(MilvusTable.of(config, tenant, name, place, place.to, turn.since))
    return found


def _greatest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each id the row with the greatest version; of equal ones, the last."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        other, version = best.get(row["id"]), row["version"]
        if (
            other is None
            or version is None
            or other["version"] is None
            or version >= other["version"]
        ):
            best[row["id"]] = row
    return list(best.values())
