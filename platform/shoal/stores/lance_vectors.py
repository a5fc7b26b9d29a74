"""LanceDB: a database per tenant, a table per collection, opened by every process."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.query import ColumnOrdering, FullTextOperator, MatchQuery, PhraseQuery

from shoal.contract.batch import off_loop
from shoal.contract.errors import Invalid, NotFound
from shoal.contract.vectors import (
    MAX_TOKENS,
    Condition,
    Hit,
    Page,
    VectorSchema,
)

from . import lance_connections
from .condition_values import can_be_token
from .configuration import StoreConfig
from .json_values import original, path_start, values_column
from .lake import run
from .lake_location import LakeLocation
from .lance_answers import after_position, comparable, cosines, hit_of, tally
from .lance_connections import OpenTable, use_table, write_lock
from .lance_rows import ADDRESS, rows_at
from .lance_tables import (
    ID,
    RETIRED,
    VECTORS,
    VERSION,
    WRITE,
    arrow_schema,
    from_arrow,
    rows_to_write,
    scalar_indexes,
    tombstones,
    vector_schema,
)
from .lance_upkeep import BYTE_ROWS, index_facts, note_write, optimize_table
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
    check_versions,
    in_batches,
)

COMMIT, BATCH = 10_000, 1_000
"""Rows of one commit, and ids of one query."""
OPTIMIZE_WAIT = 0.05
"""Seconds until it is looked again whether another has finished optimising."""
NEWER = "target.version IS NULL OR source.version IS NULL OR target.version < source.version"
RETIRABLE = (
    "target.version IS NULL OR target.version < source.version"
    f" OR (target.version = source.version AND target.{RETIRED} IS NULL)"
)
LIVE = f"{RETIRED} IS NULL"
Plan = Literal["flat", "all", "some", "scan"]
Search = Callable[[OpenTable], Awaitable[Any]]
"""Gives a table with the column `ADDRESS`."""
SEARCHES = 4
"""Times that it is searched, where rows are written meanwhile."""
PROBES = 100_000
"""More than an index has partitions: all are searched."""
SCANNED_ROWS = 25_000
"""Rows that pass a filter, up to which a large table is searched without its index."""
OVERFETCH = 10
"""Vectors that LanceDB takes from an index for each row that it is to find."""
ALL_REFINED = 4
"""Times as many rows as are to be found, whose vectors are compared exactly."""
SOME_PROBES, SOME_ROWS, SOME_REFINED = 64, 5, OVERFETCH
"""Partitions that are searched, times as many rows as are to be found, and times as
many as these that are compared exactly.

Chosen on a million and ten million vectors of clustered noise (benchmarks/).
"""
MARGIN, TOLERANCE = 8, 1e-5
"""Further rows that are fetched; and how much LanceDB's cosines may be wrong."""


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
        wanted, plan = limit + MARGIN, await self._plan(name, sql)
        while True:
            search = _nearest(query, sql, wanted, plan)
            found, rows = await self._find(name, search, [VECTORS, *columns], keep=True)
            scores, vectors = await off_loop(cosines, rows, query)
            order = np.lexsort(([row[ID] for row in rows], -scores))
            if len(rows) < wanted:
                # These rows' vectors may have been all that the index was asked for.
                if plan in ("some", "scan") or vectors < OVERFETCH * wanted:
                    break
                plan = "scan"
                continue
            if plan == "some":
                break
            least = 1 - float(pc.max(found["_distance"]).as_py())
            if least < scores[order[limit - 1]] - TOLERANCE:
                break
            wanted *= 4  # others may be as similar
        return [hit_of(rows[i], scores[i]) for i in order[:limit]]

    async def matching(
        self,
        name: str,
        field: str,
        tokens: Sequence[str],
        *,
        limit: int,
        every: bool = False,
        phrase: bool = False,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        schema = await self._schema(name)
        if schema.fields.get(field) != "tokens":
            raise Invalid(f"the collection has no field {field!r} of tokens")
        sql, columns = to_sql(schema, filter), check_fields(schema, fields)
        if len(tokens) > MAX_TOKENS:
            raise Invalid(f"a search is for at most {MAX_TOKENS} tokens")
        sought = [token for token in tokens if can_be_token(token)]
        if check_limit(limit) < 1 or not sought or ((every or phrase) and sought != list(tokens)):
            return []
        text = " ".join(sought)
        if phrase:
            query: Any = PhraseQuery(text, field)  # type: ignore[call-arg]
        else:
            operator = FullTextOperator.AND if every else FullTextOperator.OR
            query = MatchQuery(text, field, operator=operator)  # type: ignore[call-arg]

        async def search(opened: OpenTable) -> Any:
            found = opened.table.query().nearest_to_text(query)
            if sql:
                found = found.where(sql)
            return await found.limit(limit).with_row_id().select(["_score"]).to_arrow()

        found, rows = await self._find(name, search, columns, keep=True)
        scores = np.maximum(found["_score"].to_numpy(), 0)
        order = np.lexsort(([row[ID] for row in rows], -scores))
        return [hit_of(rows[i], scores[i]) for i in order]

    async def count(self, name: str, *, filter: Sequence[Condition] = ()) -> int:
        sql = _live(to_sql(await self._schema(name), filter))
        return int(await self._use(name, lambda t: t.table.count_rows(sql)))

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

        counts = await self._use(name, count_values)
        if kind == "json":
            counts = {original(t[len(start) :]): n for t, n in counts.items() if t != start}
        ranked = sorted(counts.items(), key=lambda item: (-item[1], comparable(item[0])))
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
        ordering = [
            ColumnOrdering(column_name=sort, ascending=not descending, nulls_first=False),
            ColumnOrdering(column_name=ID, ascending=True, nulls_first=False),
        ]

        async def page(opened: OpenTable) -> Any:
            query = opened.table.query().where(sql).order_by(ordering[: 1 if sort == ID else 2])
            return await query.limit(limit + 1).with_row_id().select([sort]).to_arrow()

        _, rows = await self._find(name, page, [sort, *columns], keep=False)
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

    async def _plan(self, name: str, sql: str) -> Plan:
        """How to search: all partitions of the index, some of them, or without it.

        An index of the vectors themselves ("flat") need not be compared with them.
        """

        async def plan(opened: OpenTable) -> Plan:
            rows, is_flat = await index_facts(opened)
            if rows <= BYTE_ROWS:
                return "flat" if is_flat else "all"
            few = sql and await opened.table.count_rows(sql) <= SCANNED_ROWS
            return "scan" if few else "some"

        found: Plan = await self._use(name, plan)
        return found

    async def _find(
        self, name: str, search: Search, columns: Sequence[str], *, keep: bool
    ) -> tuple[pa.Table, list[dict[str, Any]]]:
        """What a search of addresses found, and the rows.

        Where some were written again or moved meanwhile, it is searched again.
        """

        async def find(opened: OpenTable) -> tuple[pa.Table, list[dict[str, Any]]]:
            for _ in range(SEARCHES):
                found = await search(opened)
                addresses = found[ADDRESS].to_pylist()
                rows = await rows_at(opened, addresses, columns, keep=keep)
                if len(rows) == len(addresses):
                    return found, [rows[address] for address in addresses]
            there = [address in rows for address in addresses]
            return found.filter(pa.array(there)), [rows[a] for a in addresses if a in rows]

        result: tuple[pa.Table, list[dict[str, Any]]] = await self._use(name, find)
        return result


def _nearest(query: np.ndarray, sql: str, limit: int, plan: Plan) -> Search:
    """A search for the addresses of the rows with the most similar vectors."""

    async def search(opened: OpenTable) -> Any:
        found = opened.table.query().nearest_to(query).column(VECTORS).distance_type("cosine")
        if plan == "scan":
            found = found.bypass_vector_index()
        elif plan == "flat":
            found = found.nprobes(PROBES)
        elif plan == "all":
            found = found.nprobes(PROBES).refine_factor(ALL_REFINED)
        else:
            found = found.nprobes(SOME_PROBES).refine_factor(SOME_REFINED)
        if sql:
            found = found.where(sql)
        rows = SOME_ROWS * limit if plan == "some" else limit
        return await found.limit(rows).with_row_id().select(["_distance"]).to_arrow()

    return search


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
