"""Milvus: small tenants share a collection, large ones have their own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shoal.contract.errors import NotFound
from shoal.contract.vectors import (
    Condition,
    Hit,
    Page,
    VectorSchema,
)

from .configuration import StoreConfig
from .json_values import original, path_start
from .milvus_client import READ_SECONDS, milvus_client
from .milvus_faults import translate_errors
from .milvus_filters import one_of, to_expression
from .milvus_listing import first_rows
from .milvus_nearest import nearest_rows
from .milvus_places import Place, Places, Turn, Where
from .milvus_rows import output_columns, row_of, value_of
from .milvus_schema import (
    BARE,
    FURTHER,
    HEAD,
    check_schema,
    create_collection,
    key_of,
    own_name,
    own_prefix,
    partition_of,
)
from .milvus_table import MilvusTable
from .milvus_words import best_rows
from .milvus_writes import delete_rows, forget_rows, retire_rows, write_rows
from .tenant_store import TenantStore
from .vector_cursors import read_position, write_position
from .vector_rows import (
    check_facet,
    check_fields,
    check_ids,
    check_limit,
    check_name,
    check_query,
    check_rows,
    check_same,
    check_sort,
    check_tokens,
    check_versions,
    in_batches,
)

BATCH = 1_000
"""Rows of one turn, and ids of one query."""
LIVE = f"kind in [{HEAD}, {BARE}]"


class MilvusVectors(TenantStore):
    """See `shoal.contract.vectors.Vectors`."""

    __slots__ = ()

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        check_name(name)
        check_schema(schema)
        try:
            found = (await self._places.read(name)).place
        except NotFound:
            place = Place(schema.dimension, dict(schema.fields))
            await self.create(name, place, "shared")
            if await self._is_alone(name, place):
                place = Place(schema.dimension, dict(schema.fields), "own")
            await self._places.add(name, place)
            found = (await self._places.read(name)).place
        check_same(name, found.schema, schema)

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        schema = (await self._reading(name))[0]
        refused: list[str] = []
        for start in range(0, len(rows), BATCH):
            batch = check_rows(schema, rows[start : start + BATCH], start)
            async with self._places.turn(name) as turn:
                refused += await write_rows(self._config, self._tenant, name, turn, batch)
        return list(dict.fromkeys(refused))

    async def retire(self, name: str, versions: Mapping[str, str]) -> list[str]:
        await self._reading(name)
        check_versions(versions)
        refused: list[str] = []
        items = list(versions.items())
        for start in range(0, len(items), BATCH):
            batch = dict(items[start : start + BATCH])
            async with self._places.turn(name) as turn:
                refused += await retire_rows(self._config, self._tenant, name, turn, batch)
        return refused

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        await self._reading(name)
        for batch in in_batches(check_ids(ids), BATCH):
            async with self._places.turn(name) as turn:
                await delete_rows(self._config, self._tenant, name, turn, batch)

    async def forget(self, name: str, before: str) -> int:
        await self._reading(name)
        async with self._places.turn(name) as turn:
            return await forget_rows(self._config, self._tenant, name, turn, before)

    async def get(
        self, name: str, ids: Sequence[str], fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        schema, table = await self._reading(name)
        columns = check_fields(schema, fields)
        found = {}
        for batch in in_batches(check_ids(ids), BATCH):
            keys = [key_of(self._tenant, i) for i in batch]
            for row in (await self._heads(table, schema, keys, columns)).values():
                found[row["id"]] = row
        return [found[i] for i in ids if i in found]

    async def versions(self, name: str, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
        _, table = await self._reading(name)
        found = {}
        for batch in in_batches(check_ids(ids), BATCH):
            keys = [f"{key_of(self._tenant, i)}00" for i in batch]
            wanted = f'{one_of("pk", keys)} and version != ""'
            for head in await table.query(wanted, ["id", "kind", "version"]):
                found[head["id"]] = head["version"][1:], head["kind"] not in (HEAD, BARE)
        return found

    async def nearest(
        self,
        name: str,
        vector: Sequence[float],
        *,
        limit: int,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        schema, table = await self._reading(name)
        query = check_query(vector, schema.dimension)
        columns = check_fields(schema, fields)
        to_expression(schema, filter)
        if check_limit(limit) < 1:
            return []
        found = await nearest_rows(table, schema, query, filter, limit)
        rows = await self._heads(table, schema, [key for key, _, _ in found], columns)
        return [
            Hit(row_id, score, {f: rows[key][f] for f in fields})
            for key, row_id, score in found
            if key in rows
        ]

    async def matching(
        self,
        name: str,
        field: str,
        tokens: Sequence[str | tuple[str, ...]],
        *,
        limit: int,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        schema, table = await self._reading(name)
        sought = check_tokens(schema, field, tokens)
        within, columns = _live(to_expression(schema, filter)), check_fields(schema, fields)
        if check_limit(limit) < 1 or not sought:
            return []
        found = await best_rows(table, within, field, sought, limit)
        rows = await self._heads(table, schema, [key for key, _, _ in found], columns)
        return [
            Hit(row_id, score, {f: rows[key][f] for f in fields})
            for key, row_id, score in found
            if key in rows
        ]

    async def count(self, name: str, *, filter: Sequence[Condition] = ()) -> int:
        schema, table = await self._reading(name)
        return await table.count(_live(to_expression(schema, filter)))

    async def facet(
        self, name: str, field: str, *, limit: int, filter: Sequence[Condition] = ()
    ) -> list[tuple[str | int | float | bool, int]]:
        schema, table = await self._reading(name)
        own, kind, path = check_facet(schema, field)
        within = _live(to_expression(schema, filter))
        if check_limit(limit) < 1:
            return []
        start, counts = path_start(path), Counter[Any]()
        columns = [f"v_{own}"] if kind == "json" else [f"f_{own}", f"a_{own}"]
        async for page in table.pages(within, columns):
            for entity in page:
                if kind == "json":
                    counts.update({t for t in entity[f"v_{own}"] if t.startswith(start)} - {start})
                    continue
                value = value_of(schema, own, entity)
                if value is not None:
                    counts.update(set(value) if kind == "strings" else [value])
        found = [*counts.items()]
        if kind == "json":  # pairs, as True and 1 would be one key
            found = [(original(t[len(start) :]), n) for t, n in found]
        return sorted(found, key=lambda pair: (-pair[1], _comparable(pair[0])))[:limit]

    async def rows(
        self,
        name: str,
        *,
        limit: int,
        after: str | None = None,
        sort: str = "id",
        descending: bool = False,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> Page:
        schema, table = await self._reading(name)
        check_sort(schema, sort)
        within, columns = _live(to_expression(schema, filter)), check_fields(schema, fields)
        order, last = (sort, descending), None
        if after is not None:
            last = read_position(order, after)
        if check_limit(limit) < 1:
            return Page([], after)
        first = await first_rows(table, schema, within, order, last, limit + 1)
        shown = first[:limit]
        rows = await self._heads(table, schema, [key for _, _, key in shown], columns)
        further = write_position(order, shown[-1][:2]) if len(first) > limit else None
        return Page([rows[key] for _, _, key in shown if key in rows], further)

    async def optimize(self, name: str) -> None:
        await self._reading(name)  # Milvus does it by itself

    async def drop(self, name: str) -> None:
        await self._reading(name)
        written = 0
        async with self._places.turn(name) as turn:
            for where in {turn.place.at, turn.place.to, turn.place.left}:
                if where is not None:
                    written = max(written, await self.remove(name, turn, where))
            await self._places.remove(name, written)

    async def names(self) -> list[str]:
        """The tenant's collections."""
        return await self._places.names()

    async def create(self, name: str, place: Place, where: Where) -> None:
        """Create what there is not of the collection at one place, and load it."""
        shared = where == "shared"
        collection = self.table(name, place, where, 0).collection
        async with self._places.alone(f"@vectors:create:{collection}", name):
            await create_collection(
                milvus_client(self._config), collection, name, place.schema, shared=shared
            )

    async def remove(self, name: str, turn: Turn, where: Where) -> int:
        """Remove the collection from one of its places; return the time."""
        if where == "own":
            await self.table(name, turn.place, where, turn.since).drop()
            return 0
        return await self.clear(name, turn, where)

    async def clear(self, name: str, turn: Turn, where: Where) -> int:
        """Delete all entities at one of its places; return the time of it."""
        table, written = self.table(name, turn.place, where, turn.since), 0
        async for page in table.pages("", ["pk"]):
            if page:
                await turn.confirm()
                written = await table.delete([entity["pk"] for entity in page])
        return written

    def table(self, name: str, place: Place, where: Where, since: int) -> MilvusTable:
        return MilvusTable.of(self._config, self._tenant, name, place, where, since)

    @property
    def _places(self) -> Places:
        return Places(self._config, self._tenant)

    async def _reading(self, name: str) -> tuple[VectorSchema, MilvusTable]:
        reading = await self._places.read(check_name(name))
        place = reading.place
        return place.schema, self.table(name, place, place.at, reading.written)

    async def _heads(
        self, table: MilvusTable, schema: VectorSchema, keys: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """The rows by the digests of their keys."""
        found: dict[str, dict[str, Any]] = {}
        for batch in in_batches(keys, BATCH):
            wanted = f"{one_of('pk', [f'{key}00' for key in batch])} and {LIVE}"
            for entity in await table.query(wanted, output_columns(schema, fields)):
                found[entity["row"]] = row_of(schema, fields, entity)
        if "vectors" in fields:
            await self._add_vectors(table, schema, found)
        return found

    async def _add_vectors(
        self, table: MilvusTable, schema: VectorSchema, rows: dict[str, dict[str, Any]]
    ) -> None:
        vectors: dict[str, dict[tuple[int, str], Any]] = {key: {} for key in rows}
        for batch in in_batches(list(rows), BATCH):
            for entity in await table.entities(batch, ["pk", "row", "kind", "stamp", "vector"]):
                if entity["kind"] in (HEAD, FURTHER):
                    vectors[entity["row"]][entity["stamp"], entity["pk"]] = entity["vector"]
        for key, row in rows.items():
            head = next((stamp for stamp, pk in vectors[key] if pk == f"{key}00"), None)
            own = [vectors[key][at] for at in sorted(vectors[key]) if at[0] == head]
            row["vectors"] = np.asarray(own, np.float32).reshape(-1, schema.dimension)

    async def _is_alone(self, name: str, place: Place) -> bool:
        """Whether the tenant has its own collection, and nothing in the shared one.

        Only where what Redis knew of the places is lost.
        """
        async with translate_errors(name, READ_SECONDS):
            own = own_name(self._tenant, name)
            if not await milvus_client(self._config).has_collection(own, retry_times=1):
                return False
        return not await self.table(name, place, "shared", 0).count("")


def _live(expression: str) -> str:
    return f"{LIVE} and {expression}" if expression else LIVE


def _comparable(value: Any) -> tuple[str, Any]:
    kind = "n" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return kind or type(value).__name__, value


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's collections; return how many rows they had."""
    store, rows = MilvusVectors(config, tenant), 0
    for name in await store.names():
        rows += await store.count(name)
        await store.drop(name)
    for table in await _tables_with_data(config, tenant):
        if table.partition is None:
            await table.drop()
            continue
        async for page in table.pages("", ["pk"]):
            await table.delete([entity["pk"] for entity in page])
    await Places(config, tenant).erase()
    return rows


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any collections, or anything in a shared one."""
    store = MilvusVectors(config, tenant)
    return bool(await store.names() or await _tables_with_data(config, tenant))


async def _tables_with_data(config: StoreConfig, tenant: str) -> list[MilvusTable]:
    async with translate_errors("", READ_SECONDS):
        there = await milvus_client(config).list_collections(retry_times=1)
    found = [
        MilvusTable(config, tenant, "", name, None, 0)
        for name in there
        if name.startswith(own_prefix(tenant))
    ]
    for name in there:
        if name.startswith("S_"):
            table = MilvusTable(config, tenant, "", name, partition_of(tenant), 0)
            if await table.count(""):
                found.append(table)
    return found
