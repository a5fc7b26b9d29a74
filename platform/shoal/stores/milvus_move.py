"""Moving a tenant's collections between the shared ones and its own.

Meanwhile they are read where they were, and written in both places. A move that was
killed goes on when it is asked for again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from .configuration import StoreConfig
from .milvus_client import READ_SECONDS
from .milvus_places import Place, Places, Turn, Where
from .milvus_schema import columns
from .milvus_table import MilvusTable, batches
from .milvus_vectors import MilvusVectors
from .milvus_writes import read_stored

CHUNK = 500
"""Rows of which no other may be written while they are copied."""
PAUSE = 0.05
"""Seconds between two of these, in which others have their turn."""
ATTEMPTS = 10
"""Of a copy that a writer's end disturbed."""


async def move_tenant(
    config: StoreConfig, tenant: str, to: Where, *, grace: float = READ_SECONDS
) -> dict[str, int]:
    """Move all of a tenant's collections; those that are there already stay.

    Args:
        config: Where Milvus and Redis are.
        tenant: The tenant.
        to: Its own collections, or the shared ones.
        grace: Seconds for which former readers may still read where it was.

    Returns:
        How many rows were copied, retired ones included, by collection.

    Raises:
        Unavailable: Milvus or Redis is. Ask again: it goes on.
    """
    return {
        name: await _Move(config, tenant, name, to).run(grace)
        for name in await Places(config, tenant).names()
    }


class _Move:
    """The move of one collection."""

    def __init__(self, config: StoreConfig, tenant: str, name: str, to: Where) -> None:
        self._config, self._tenant, self._name, self._to = config, tenant, name, to
        self._store, self._places = MilvusVectors(config, tenant), Places(config, tenant)

    async def run(self, grace: float) -> int:
        copied = 0
        await self._finish(grace)
        place = (await self._places.read(self._name)).place
        if place.at != self._to:
            await self._store.create(self._name, place, self._to)
            for _ in range(ATTEMPTS):
                before = await self._begin()
                copied = await self._copy()
                if await self._switch(before):
                    break
            await self._finish(grace)
        elif place.to is not None:
            await self._cancel()
        return copied

    async def _begin(self) -> int:
        """Have everything written in both places; return how many writes broke off."""
        async with self._turn() as turn:
            if turn.place.to is None:
                await self._store.clear(self._name, turn, self._to)
                await turn.put(self._place(turn, to=self._to))
            return turn.interruptions

    async def _copy(self) -> int:
        place, copied = (await self._places.read(self._name)).place, 0
        async for keys in self._keys(place):
            async with self._turn() as turn:
                await self._copy_rows(turn, keys)
            copied += len(keys)
            await asyncio.sleep(PAUSE)
        return copied

    async def _copy_rows(self, turn: Turn, keys: list[str]) -> None:
        source, target = self._table(turn, turn.place.at), self._table(turn, self._to)
        there = await read_stored(target, keys)
        rows: dict[str, list[dict[str, Any]]] = {}
        for entity in await source.entities(keys, list(columns(turn.place.schema))):
            rows.setdefault(entity["row"], []).append(entity)
        for batch in batches(list(rows.values()), turn.place.dimension):
            await turn.confirm()
            await target.upsert(batch)
        copied = {entity["pk"] for row in rows.values() for entity in row}
        if gone := {pk for row in there.values() for pk in row.entities} - copied:
            await turn.confirm()
            await target.delete(gone)

    async def _switch(self, before: int) -> bool:
        """Have it read in the new place; False where a write broke off meanwhile."""
        async with self._turn() as turn:
            if turn.interruptions != before:
                return False
            turn.written = self._table(turn, self._to).last_write
            await turn.put(self._place(turn, at=self._to, left=turn.place.at))
            return True

    async def _finish(self, grace: float) -> None:
        """Remove what was left behind, once nobody reads it."""
        if (await self._places.read(self._name)).place.left is None:
            return
        await asyncio.sleep(grace)
        async with self._turn() as turn:
            if turn.place.left is not None:
                await self._store.remove(self._name, turn, turn.place.left)
                await turn.put(self._place(turn))

    async def _cancel(self) -> None:
        """End a move the other way, which was begun and not ended."""
        async with self._turn() as turn:
            if turn.place.to is not None:
                await self._store.remove(self._name, turn, turn.place.to)
                await turn.put(self._place(turn))

    async def _keys(self, place: Place) -> AsyncIterator[list[str]]:
        """The digests of all rows' keys, retired ones included."""
        written = (await self._places.read(self._name)).written
        table = self._store.table(self._name, place, place.at, written)
        async for page in table.pages("kind != 2", ["row"]):
            keys = [entity["row"] for entity in page]
            for start in range(0, len(keys), CHUNK):
                yield keys[start : start + CHUNK]

    def _table(self, turn: Turn, where: Where) -> MilvusTable:
        return self._store.table(self._name, turn.place, where, turn.since)

    def _turn(self) -> AbstractAsyncContextManager[Turn]:
        return self._places.turn(self._name)

    def _place(
        self,
        turn: Turn,
        at: Where | None = None,
        to: Where | None = None,
        left: Where | None = None,
    ) -> Place:
        place = turn.place
        return Place(place.dimension, place.fields, at or place.at, to, left)
