"""What LanceDB answers, as the contract wants it: cosines, tallies and listings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shoal.contract.vectors import Between, Equals, Hit, VectorSchema

from .lance_tables import ID, VECTORS
from .vector_conditions import NEVER, column, to_sql
from .vector_cursors import Order, Position


def cosines(rows: Sequence[Mapping[str, Any]], query: np.ndarray) -> tuple[np.ndarray, int]:
    """The greatest cosine of each row, and how many vectors there are.

    LanceDB's differ in the last bits between files, so that equal ones would not be.
    """
    if not rows:
        return np.zeros(0), 0
    counts = np.array([len(row[VECTORS]) for row in rows])
    vectors = np.concatenate([row[VECTORS] for row in rows]).astype(np.float64)
    lengths = np.sqrt((vectors * vectors).sum(axis=1))
    values = (vectors * query.astype(np.float64)).sum(axis=1) / lengths
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.clip(np.maximum.reduceat(values, starts), -1, 1), len(vectors)


def hit_of(row: Mapping[str, Any], score: float) -> Hit:
    """A row that was found, with its score."""
    return Hit(row[ID], float(score), row)


def tally(values: pa.Array, start: str | None) -> Iterable[tuple[Any, int]]:
    if pa.types.is_list(values.type):
        pairs = pa.table({"row": pc.list_parent_indices(values), "value": pc.list_flatten(values)})
        if start is not None:
            pairs = pairs.filter(pc.starts_with(pairs["value"], start))
        values = pairs.group_by(["row", "value"]).aggregate([])["value"]
    for entry in pc.value_counts(values.drop_null()).to_pylist():
        yield entry["values"], entry["counts"]


def comparable(value: Any) -> tuple[str, Any]:
    kind = "n" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return kind or type(value).__name__, value


def after_position(schema: VectorSchema, order: Order, position: Position) -> str:
    """What comes after a page's last row, as SQL; rows without a value come last."""
    (sort, descending), (value, key) = order, position
    next_id = to_sql(schema, [Between(ID, above=key)])
    if sort == ID:
        return to_sql(schema, [Between(ID, below=key)]) if descending else next_id
    same = to_sql(schema, [Equals(sort, value)])
    if value is None:
        return f"{same} AND {next_id}"
    if isinstance(value, bool):
        further = to_sql(schema, [Equals(sort, not value)]) if value == descending else NEVER
    else:
        beyond = Between(sort, below=value) if descending else Between(sort, above=value)
        further = to_sql(schema, [beyond])
    return f"{further} OR {column(sort)} IS NULL OR ({same} AND {next_id})"
