"""The rows with the most similar vectors, from Milvus's most similar entities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoal.contract.vectors import Condition, VectorSchema

from .milvus_filters import names_tokens, one_of, to_expression, without_tokens
from .milvus_schema import BARE, FURTHER, HEAD
from .milvus_table import WINDOW, MilvusTable

MARGIN, TOLERANCE = 8, 1e-5
"""Further entities that are fetched; and how much Milvus's cosines may be wrong."""
FEW_ROWS = 10_000
"""Rows whose keys are sent, where only a row's first entity has what is filtered by."""
KEYS = 2_000
HEADS = 1_000

Found = tuple[str, str, float]
"""The digest of a row's key, its id, and its cosine."""


@dataclass(slots=True)
class Round:
    """What one search of Milvus found."""

    rows: dict[str, tuple[str, float]]  # the id and the greatest cosine, by digest
    torn: bool
    entities: int
    least: float
    seen: set[str]


async def nearest_rows(
    table: MilvusTable,
    schema: VectorSchema,
    query: np.ndarray,
    filter: Sequence[Condition],
    limit: int,
) -> list[Found]:
    """Rows with the most similar vectors, of equally similar ones the smallest ids.

    A row's tokens are with its first entity only. So a condition on them is checked
    there, for more and more entities; or the search is among the few rows that pass.

    Args:
        table: The tenant's entities.
        schema: Of the collection.
        query: A vector of length 1.
        filter: Restricts the rows.
        limit: The largest number of rows.
    """
    light = to_expression(schema, without_tokens(schema, filter))
    searched = _joined(f"kind in [{HEAD}, {FURTHER}]", light)
    if not names_tokens(schema, filter):
        return await _search(table, query, searched, "", limit)
    heads = _joined(f"kind == {HEAD}", to_expression(schema, filter))
    if await table.count(heads) > FEW_ROWS:
        return await _search(table, query, searched, to_expression(schema, filter), limit)
    found: list[Found] = []
    async for page in table.pages(heads, ["row"]):
        keys = [entity["row"] for entity in page]
        for start in range(0, len(keys), KEYS):
            among = _joined(searched, one_of("row", keys[start : start + KEYS]))
            found += await _search(table, query, among, "", limit)
    return _best(found, limit)


async def _search(
    table: MilvusTable, query: np.ndarray, searched: str, checked: str, limit: int
) -> list[Found]:
    wanted, is_again = min(2 * limit + MARGIN, WINDOW), False
    past: dict[str, tuple[str, float]] = {}
    seen: set[str] = set()
    while True:
        expression = searched
        if seen:
            expression = _joined(searched, f"not ({one_of('row', sorted(seen))})")
        found = await _round(table, query, expression, checked, wanted)
        if found.torn and not is_again:  # by a write meanwhile: it is over now
            is_again = True
            continue
        ranked = _best([(k, i, s) for k, (i, s) in {**past, **found.rows}.items()], limit)
        is_sure = len(ranked) == limit and found.least < ranked[-1][2] - TOLERANCE
        if found.entities < wanted or is_sure:
            return ranked
        if wanted < WINDOW:
            wanted = min(4 * wanted, WINDOW)
        elif len(ranked) == limit:
            return ranked  # of so many equally similar ones
        else:
            past |= found.rows
            seen |= found.seen


async def _round(
    table: MilvusTable, query: np.ndarray, expression: str, checked: str, wanted: int
) -> Round:
    found = await table.search(query, expression, ["row", "stamp", "vector"], wanted)
    if not found:
        return Round({}, False, 0, -1.0, set())
    # Milvus's differ in their last bits between segments: equals would not be equal.
    vectors = np.asarray([hit["vector"] for hit in found], np.float64)
    cosines = (vectors @ query.astype(np.float64)) / np.linalg.norm(vectors, axis=1)
    seen = dict.fromkeys(hit["row"] for hit in found)
    heads = await _heads(table, list(seen), checked)
    rows, torn = dict[str, tuple[str, float]](), False
    for hit, cosine in zip(found, np.clip(cosines, -1, 1).tolist(), strict=True):
        head = heads.get(hit["row"])
        if head is None:
            continue
        if head["stamp"] != hit["stamp"]:
            torn = True
        elif hit["row"] not in rows or rows[hit["row"]][1] < cosine:
            rows[hit["row"]] = head["id"], cosine
    return Round(rows, torn, len(found), found[-1]["distance"], set(seen))


async def _heads(
    table: MilvusTable, keys: Sequence[str], checked: str
) -> dict[str, dict[str, Any]]:
    found = {}
    for start in range(0, len(keys), HEADS):
        pks = [f"{key}00" for key in keys[start : start + HEADS]]
        wanted = _joined(f"{one_of('pk', pks)} and kind in [{HEAD}, {BARE}]", checked)
        for entity in await table.query(wanted, ["row", "id", "stamp"]):
            found[entity["row"]] = entity
    return found


def _best(found: Sequence[Found], limit: int) -> list[Found]:
    return sorted(found, key=lambda entry: (-entry[2], entry[1]))[:limit]


def _joined(expression: str, other: str) -> str:
    return f"{expression} and {other}" if other else expression
