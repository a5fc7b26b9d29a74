"""Searches of a table: which rows are found, by address, and what is in them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.query import BooleanQuery, FullTextOperator, MatchQuery, Occur

from shoal.contract.batch import off_loop
from shoal.contract.vectors import Hit

from .lance_answers import cosines, hit_of
from .lance_connections import OpenTable
from .lance_counts import count_rows
from .lance_rows import ADDRESS, rows_at
from .lance_tables import ID, STEP, VECTORS
from .lance_upkeep import BYTE_ROWS, index_facts

Row = dict[str, Any]
Search = Callable[[OpenTable], Awaitable[Any]]
"""Gives a table with the column `ADDRESS`."""
Plan = Literal["flat", "all", "some", "scan"]
"""How the index of vectors is used: all of its partitions, some of them, or not at all.

An index of the vectors themselves ("flat") need not be compared with them.
"""
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


async def find_rows(
    opened: OpenTable, search: Search, columns: Sequence[str], *, keep: bool
) -> tuple[pa.Table, list[Row]]:
    """What a search found, and the rows.

    Where some were written again or moved meanwhile, it is searched again.

    Args:
        opened: The table.
        search: The search.
        columns: Of the rows.
        keep: Whether the rows are likely to be found again soon.
    """
    for _ in range(SEARCHES):
        found = await search(opened)
        addresses = found[ADDRESS].to_pylist()
        rows = await rows_at(opened, addresses, columns, keep=keep)
        if len(rows) == len(addresses):
            return found, [rows[address] for address in addresses]
    there = [address in rows for address in addresses]
    return found.filter(pa.array(there)), [rows[a] for a in addresses if a in rows]


async def nearest_rows(
    opened: OpenTable, query: np.ndarray, sql: str, limit: int, columns: Sequence[str]
) -> list[Hit]:
    """The rows with the most similar vectors; of equally similar ones, the smallest id.

    Args:
        opened: The table.
        query: Shape (dimension,), of length 1.
        sql: The filter.
        limit: The largest number of rows, at least 1.
        columns: Of the rows.
    """
    wanted, plan = limit + MARGIN, await _choose_plan(opened, sql)
    while True:
        search = _nearest(query, sql, wanted, plan)
        found, rows = await find_rows(opened, search, [VECTORS, *columns], keep=True)
        few = len(rows) <= STEP
        scores, vectors = cosines(rows, query) if few else await off_loop(cosines, rows, query)
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


async def matching_rows(
    opened: OpenTable,
    field: str,
    sought: Sequence[tuple[str, ...]],
    sql: str,
    limit: int,
    columns: Sequence[str],
) -> list[Hit]:
    """The rows that have all tokens of one of these tuples, highest BM25 first.

    Args:
        opened: The table.
        field: The column.
        sought: Tuples of tokens, at least one.
        sql: The filter.
        limit: The largest number of rows, at least 1.
        columns: Of the rows.
    """
    query = _words_query(field, sought)

    async def search(opened: OpenTable) -> Any:
        found = opened.table.query().nearest_to_text(query)
        if sql:
            found = found.where(sql)
        return await found.limit(limit).with_row_id().select(["_score"]).to_arrow()

    found, rows = await find_rows(opened, search, columns, keep=True)
    scores = np.maximum(found["_score"].to_numpy(), 0)
    order = np.lexsort(([row[ID] for row in rows], -scores))
    return [hit_of(rows[i], scores[i]) for i in order]


def _words_query(field: str, sought: Sequence[tuple[str, ...]]) -> Any:
    """One search for them all, as most of what one costs is its planning."""
    single = " ".join(group[0] for group in sought if len(group) == 1)
    together = [" ".join(group) for group in sought if len(group) > 1]
    parts: list[Any] = [
        MatchQuery(text, field, operator=FullTextOperator.AND)  # type: ignore[call-arg]
        for text in together
    ]
    if single:
        parts.append(MatchQuery(single, field))  # type: ignore[call-arg]
    return parts[0] if len(parts) == 1 else BooleanQuery([(Occur.SHOULD, p) for p in parts])


async def _choose_plan(opened: OpenTable, sql: str) -> Plan:
    rows, is_flat = await index_facts(opened)
    if rows <= BYTE_ROWS:
        return "flat" if is_flat else "all"
    few = sql and await count_rows(opened, sql) <= SCANNED_ROWS
    return "scan" if few else "some"


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
