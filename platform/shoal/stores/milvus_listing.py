"""Rows of Milvus by the value of a field. Milvus sorts nothing: all rows are read."""

from typing import Any

from shoal.contract.vectors import Between, VectorSchema

from .milvus_filters import to_expression
from .milvus_rows import value_of
from .milvus_table import MilvusTable
from .vector_cursors import Order, Position

Listed = tuple[Any, str, str]
"""A row's value, its id, and the digest of its key."""


async def first_rows(
    table: MilvusTable,
    schema: VectorSchema,
    within: str,
    order: Order,
    last: Position | None,
    limit: int,
) -> list[Listed]:
    """The first rows after a position, in order, for which an expression holds."""
    sort, first = order[0], list[Listed]()
    if last is not None:
        within += f" and ({_onwards(schema, order, last)})"
    columns = ["row", "id"] if sort == "id" else ["row", "id", f"f_{sort}", f"a_{sort}"]
    async for page in table.pages(within, columns):
        for entity in page:
            value = entity["id"] if sort == "id" else value_of(schema, sort, entity)
            first.append((value, entity["id"], entity["row"]))
        first = _ordered(first, order, last)[:limit]
    return first


def _ordered(rows: list[Listed], order: Order, last: Position | None) -> list[Listed]:
    """Rows after a page's last, by value and id, those without a value last."""
    sort, descending = order
    if sort == "id":
        return sorted(rows, reverse=descending, key=lambda row: row[1])
    with_value = sorted((r for r in rows if r[0] is not None), key=lambda row: row[1])
    with_value.sort(key=lambda row: row[0], reverse=descending)
    found = with_value + sorted((r for r in rows if r[0] is None), key=lambda row: row[1])
    if last is None:
        return found
    value, key = last
    if value is None:
        return [r for r in found if r[0] is None and r[1] > key]

    def is_after(row: Listed) -> bool:
        if row[0] is None:
            return True
        if row[0] == value:
            return row[1] > key
        return bool(row[0] < value) == descending

    return [row for row in found if is_after(row)]


def _onwards(schema: VectorSchema, order: Order, last: Position) -> str:
    """What comes after a page's last row, and what is equal to it."""
    (sort, descending), (value, key) = order, last
    if sort == "id":
        bound = Between("id", below=key) if descending else Between("id", above=key)
        return to_expression(schema, [bound])
    if value is None:
        return f"a_{sort} > 0"
    if isinstance(value, bool):
        return f"a_{sort} >= 0"
    beyond = Between(sort, most=value) if descending else Between(sort, least=value)
    return f"a_{sort} > 0 or ({to_expression(schema, [beyond])})"
