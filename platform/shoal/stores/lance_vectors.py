"""LanceDB: a database per tenant, a table per collection, opened by every process."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from lancedb.query import ColumnOrdering

from shoal.contract.batch import off_loop
from shoal.contract.errors import NotFound
from shoal.contract.vectors import (
    Condition,
    Hit,
    Page,
    VectorSchema,
)

from . import lance_connections
from .configuration import StoreConfig
from .json_values import original, path_start, values_column
from .lake import run
from .lake_location import LakeLocation
from .lance_answers import after_position, comparable, tally
from .lance_connections import OpenTable, use_table, write_lock
from .lance_counts import count_rows
from .lance_search import find_rows, matching_rows, nearest_rows
from .lance_tables import (
    ID,
    RETIRED,
    VERSION,
    WRITE,
    arrow_schema,
    from_arrow,
    rows_to_write,
    scalar_indexes,
    tombstones,
    vector_schema,
)
from .lance_upkeep import note_write, optimize_table
from .tenant_store import TenantStore
from .vector_conditions import text_literal, to_sql
from .vector_cursors import read_position, write_position
from .vector_rows import (
    check_facet,
    check_fields,
    check_ids,
    check_limit,
    check_name,
    check_query,
    check_same,
    check_sort,
    check_tokens,
    check_versions,
    in_batches,
)

COMMIT, BATCH = 10_000, 1_000
"""Rows of one commit, and ids of one query."""
KEPT_PAGE = 200
"""Rows of a page up to which a process keeps them: jobs read larger ones, once."""
OPTIMIZE_WAIT = 0.05
"""Seconds until it is looked again whether another has finished optimising."""
NEWER = "target.version IS NULL OR source.version IS NULL OR target.version < source.version"
RETIRABLE = (
    "target.version IS NULL OR target.version < source.version"
    f" OR (target.version = source.version AND target.{RETIRED} IS NULL)"
)
LIVE = f"{RETIRED} IS NULL"


class LanceVectors(TenantStore):
    """See `shoal.contract.vectors.Vectors`."""

    __slots__ = ()

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        check_name(name)
        columns = arrow_schema(schema)
        lance_connections.forget_table(self._location, name)
        try:
            found = await use_table(self._location, name, _read_schema)
        except NotFound:
            indexes = scalar_indexes(schema)
            await lance_connections.create_table(self._location, name, columns, indexes)
            found = await use_table(self._location, name, _read_schema)
        check_same(name, found, schema)

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        schema = await self._schema(name)
        refused: list[str] = []
        for start in range(0, len(rows), COMMIT):
            batch = rows[start : start + COMMIT]
            write = random.getrandbits(63)
            data = await off_loop(partial(rows_to_write, schema), batch, start, write)
            refused += await self._merge(name, data, NEWER, write)
        return list(dict.fromkeys(refused))

    async def retire(self, name: str, versions: Mapping[str, str]) -> list[str]:
        schema = await self._schema(name)
        await off_loop(check_versions, versions)
        items = list(versions.items())
        for start in range(0, len(items), COMMIT):
            write = random.getrandbits(63)
            batch = dict(items[start : start + COMMIT])
            data = await off_loop(partial(tombstones, schema), batch, write)
            await self._merge(name, data, RETIRABLE, write)
        found = await self.versions(name, list(versions))
        return [key for key, (version, _) in found.items() if version > versions[key]]

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        for batch in in_batches(check_ids(ids), BATCH):
            sql = _ids_sql(batch)
            await self._delete(name, sql)
        await self._note(name)

    async def forget(self, name: str, before: str) -> int:
        sql = f"{RETIRED} AND {VERSION} < {text_literal(before)}"
        count = int(await self._use(name, lambda t: t.table.count_rows(sql)))
        if count:
            await self._delete(name, sql)
            await self._note(name)
        return count

    async def get(
        self, name: str, ids: Sequence[str], fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        found = {}
        for batch in in_batches(check_ids(ids), BATCH):
            for row in await self._select(name, f"{_ids_sql(batch)} AND {LIVE}", fields):
                found[row[ID]] = row
        await self._schema(name)
        return [found[i] for i in ids if i in found]

    async def versions(self, name: str, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
        found = {}
        for batch in in_batches(check_ids(ids), BATCH):
            sql = f"{_ids_sql(batch)} AND {VERSION} IS NOT NULL"
            rows = await self._read(name, sql, [ID, VERSION, RETIRED])
            for row in rows.to_pylist():
                found[row[ID]] = row[VERSION], bool(row[RETIRED])
        await self._schema(name)
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
        schema = await self._schema(name)
        query, sql = check_query(vector, schema.dimension), to_sql(schema, filter)
        columns = check_fields(schema, fields)
        if check_limit(limit) < 1:
            return []
        hits: list[Hit] = await self._use(
            name, lambda t: nearest_rows(t, query, sql, limit, columns)
        )
        return hits

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
        schema = await self._schema(name)
        sought = check_tokens(schema, field, tokens)
        sql, columns = to_sql(schema, filter), check_fields(schema, fields)
        if check_limit(limit) < 1 or not sought:
            return []
        hits: list[Hit] = await self._use(
            name, lambda t: matching_rows(t, field, sought, sql, limit, columns)
        )
        return hits

    async def count(self, name: str, *, filter: Sequence[Condition] = ()) -> int:
        sql = _live(to_sql(await self._schema(name), filter))
        return int(await self._use(name, lambda t: count_rows(t, sql)))

    async def facet(
        self, name: str, field: str, *, limit: int, filter: Sequence[Condition] = ()
    ) -> list[tuple[str | int | float | bool, int]]:
        schema = await self._schema(name)
        own, kind, path = check_facet(schema, field)
        sql = _live(to_sql(schema, filter))
        if check_limit(limit) < 1:
            return []
        source = values_column(own) if kind == "json" else own
        start = path_start(path)

        async def count_values(opened: OpenTable) -> Counter[Any]:
            counts: Counter[Any] = Counter()
            query = opened.table.query().where(sql).select([source])
            async for batch in await query.to_batches():
                for value, number in tally(batch.column(0), start if kind == "json" else None):
                    counts[value] += number
            return counts

        counts = (await self._use(name, count_values)).items()
        if kind == "json":  # pairs, as True and 1 would be one key
            counts = [(original(t[len(start) :]), n) for t, n in counts if t != start]
        ranked = sorted(counts, key=lambda pair: (-pair[1], comparable(pair[0])))
        return ranked[:limit]

    async def rows(
        self,
        name: str,
        *,
        limit: int,
        after: str | None = None,
        sort: str = ID,
        descending: bool = False,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> Page:
        schema = await self._schema(name)
        check_sort(schema, sort)
        sql, columns = _live(to_sql(schema, filter)), check_fields(schema, fields)
        order = (sort, descending)
        if after is not None:
            sql += f" AND ({after_position(schema, order, read_position(order, after))})"
        if check_limit(limit) < 1:
            return Page([], after)
        names = list(dict.fromkeys([sort, ID]))
        ordering = [
            ColumnOrdering(
                column_name=column,
                ascending=column != sort or not descending,
                nulls_first=False,
            )
            for column in names
        ]

        async def page(opened: OpenTable) -> Any:
            query = opened.table.query().where(sql).order_by(ordering)
            return await query.limit(limit + 1).with_row_id().select(names).to_arrow()

        async def find(opened: OpenTable) -> list[dict[str, Any]]:
            if set(names).issuperset(columns):
                return from_arrow(await page(opened), schema, [sort])
            keep = limit <= KEPT_PAGE
            return (await find_rows(opened, page, [sort, *columns], keep=keep))[1]

        rows = await self._use(name, find)
        further = None
        if len(rows) > limit:
            last = rows[limit - 1]
            further = write_position(order, (last[sort], last[ID]))
        return Page(
            [{ID: row[ID], **{f: row[f] for f in columns}} for row in rows[:limit]], further
        )

    async def optimize(self, name: str) -> None:
        while not await self._use(name, optimize_table):
            await asyncio.sleep(OPTIMIZE_WAIT)

    async def drop(self, name: str) -> None:
        await lance_connections.drop_table(self._location, check_name(name))

    async def names(self) -> list[str]:
        """The tenant's collections."""
        return await lance_connections.table_names(self._location)

    @property
    def _location(self) -> LakeLocation:
        return LakeLocation.of(self._config.vectors) / self._tenant

    async def _use(self, name: str, work: Any) -> Any:
        return await use_table(self._location, check_name(name), work)

    async def _schema(self, name: str) -> VectorSchema:
        async def schema(opened: OpenTable) -> VectorSchema:
            return opened.schema

        found: VectorSchema = await self._use(name, schema)
        return found

    async def _merge(self, name: str, data: pa.Table, condition: str, write: int) -> list[str]:
        """Write rows where the condition holds; return the ids of the others."""

        async def merge(opened: OpenTable) -> Any:
            async with write_lock(opened) as alone:
                merging = opened.table.merge_insert(ID).when_matched_update_all(where=condition)
                merging = merging.when_not_matched_insert_all().use_index(alone)
                return await merging.execute(data)

        result = await self._use(name, merge)
        await self._note(name)
        if result.num_updated_rows + result.num_inserted_rows >= data.num_rows:
            return []
        ids, written = data[ID].to_pylist(), set()
        for batch in in_batches(ids, BATCH):
            sql = f"{_ids_sql(batch)} AND {WRITE} = {write}"
            written |= set((await self._read(name, sql, [ID]))[ID].to_pylist())
        return [i for i in ids if i not in written]

    async def _delete(self, name: str, sql: str) -> None:
        async def delete(opened: OpenTable) -> None:
            async with write_lock(opened):
                await opened.table.delete(sql)

        await self._use(name, delete)

    async def _note(self, name: str) -> None:
        await self._use(name, note_write)

    async def _select(self, name: str, sql: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        schema = await self._schema(name)
        columns = check_fields(schema, fields)

        found = await self._read(name, sql, [ID, *columns])
        return await off_loop(from_arrow, found, schema, columns)

    async def _read(self, name: str, sql: str, columns: list[str]) -> pa.Table:
        async def read(opened: OpenTable) -> Any:
            return await opened.table.query().where(sql).select(columns).to_arrow()

        found: pa.Table = await self._use(name, read)
        return found


async def _read_schema(opened: OpenTable) -> VectorSchema:
    return vector_schema(await opened.table.schema())


def _ids_sql(ids: Sequence[str]) -> str:
    return f"{ID} IN ({', '.join(map(text_literal, ids))})"


def _live(sql: str) -> str:
    return f"{LIVE} AND {sql}" if sql else LIVE


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's collections with all files; return how many rows they had."""
    store, rows = LanceVectors(config, tenant), 0
    for name in await store.names():
        try:
            rows += await store.count(name)
        except NotFound:
            continue
    location = LakeLocation.of(config.vectors) / tenant
    lance_connections.forget_tables(location)
    await lance_connections.drop_files(location)
    return rows


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any collections."""
    return await run((LakeLocation.of(config.vectors) / tenant).exists)


async def size(config: StoreConfig, tenant: str) -> int:
    """The bytes of a tenant's files."""
    return await run((LakeLocation.of(config.vectors) / tenant).size)
