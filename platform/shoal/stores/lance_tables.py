"""Collections as tables of LanceDB: columns, indexes, and rows to Arrow and back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.index import FTS, Bitmap, BTree, LabelList

from shoal.contract.errors import Invalid
from shoal.contract.vectors import FieldKind, VectorSchema

from .json_values import (
    ANY_TOKEN,
    END,
    leaves,
    single_values_column,
    tokens_column,
    value_token,
    values_column,
)
from .vector_rows import NAME, check_rows

SCHEMA = b"shoal.schema"
"""The key of a table's metadata below which its `VectorSchema` is."""
PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}
"""Writers that insert the same id at once notice each other by it."""
ID, VERSION, VECTORS, RETIRED, WRITE = "id", "version", "vectors", "_retired", "_write"
TYPES: dict[FieldKind, pa.DataType] = {
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
    "tokens": pa.string(),
    "stored": pa.string(),
}
FEW = 0.05
"""Distinct values of a field, as a share of a commit's rows, to order these by it."""
STEP = 250
"""Rows that Arrow converts at once: other threads of Python stand still meanwhile."""
TOKENS = FTS(
    with_position=False,
    base_tokenizer="whitespace",
    max_token_length=None,
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
)


def arrow_schema(schema: VectorSchema) -> pa.Schema:
    """The columns of a collection's table.

    Raises:
        Invalid: A field's name or the dimension is invalid.
    """
    if not 1 <= schema.dimension <= 32_768:
        raise Invalid("a collection's dimension is 1 to 32,768")
    vector = pa.list_(pa.float32(), schema.dimension)
    columns = [
        pa.field(ID, pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field(VERSION, pa.string()),
        pa.field(RETIRED, pa.bool_()),
        pa.field(WRITE, pa.int64()),
        pa.field(VECTORS, pa.list_(vector)),
    ]
    for name, kind in schema.fields.items():
        if name in (ID, VERSION, VECTORS) or not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is not a valid field name")
        if kind not in TYPES:
            raise Invalid(f"{kind!r} is not a kind of field")
        columns.append(pa.field(name, TYPES[kind]))
        if kind == "json":
            columns.append(pa.field(values_column(name), pa.list_(pa.string())))
            columns.append(pa.field(single_values_column(name), pa.string()))
        elif kind == "tokens":
            columns.append(pa.field(tokens_column(name), pa.list_(pa.string())))
    text = json.dumps({"dimension": schema.dimension, "fields": dict(schema.fields)})
    return pa.schema(columns, metadata={SCHEMA: text.encode()})


def vector_schema(found: pa.Schema) -> VectorSchema:
    """The `VectorSchema` of a table's columns."""
    return VectorSchema(**json.loads((found.metadata or {})[SCHEMA]))


def scalar_indexes(schema: VectorSchema) -> dict[str, Any]:
    """The indexes by column, those of the vectors excepted."""
    indexes: dict[str, Any] = {ID: BTree(), RETIRED: Bitmap()}
    for name, kind in schema.fields.items():
        if kind in ("string", "integer", "float"):
            indexes[name] = BTree()
        elif kind == "boolean":
            indexes[name] = Bitmap()
        elif kind == "strings":
            indexes[name] = LabelList()
        elif kind == "json":
            indexes[values_column(name)] = LabelList()
        elif kind == "tokens":
            indexes[name] = TOKENS
            indexes[tokens_column(name)] = LabelList()
    return indexes


def rows_to_write(
    schema: VectorSchema, rows: Sequence[Mapping[str, Any]], start: int, write: int
) -> pa.Table:
    """The rows of a batch as Arrow, of each id the one with the greatest version."""
    best: dict[str, dict[str, Any]] = {}
    for row in check_rows(schema, rows, start):
        other = best.get(row["id"])
        if (
            other is None
            or row["version"] is None
            or other["version"] is None
            or row["version"] >= other["version"]
        ):
            best[row["id"]] = row
    return to_arrow(schema, _put_side_by_side(schema, list(best.values())), write)


def _put_side_by_side(schema: VectorSchema, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows ordered by the fields with few values, which filters are about.

    Rows that pass such a filter are then read together: of 1,000,000 rows, 1 % in
    a tenth of the time.
    """
    sizes = {
        name: len({row.get(name) for row in rows})
        for name, kind in schema.fields.items()
        if kind == "string"
    }
    few = sorted((n, name) for name, n in sizes.items() if 1 < n <= FEW * len(rows))
    return sorted(rows, key=lambda row: [row.get(name) or "" for _, name in few]) if few else rows


def to_arrow(schema: VectorSchema, rows: Sequence[Mapping[str, Any]], write: int) -> pa.Table:
    """Checked rows as Arrow; `write` marks the rows of one call."""
    starts = range(0, max(len(rows), 1), STEP)
    return pa.concat_tables([_to_arrow(schema, rows[i : i + STEP], write) for i in starts])


def _to_arrow(schema: VectorSchema, rows: Sequence[Mapping[str, Any]], write: int) -> pa.Table:
    columns = arrow_schema(schema)
    values: dict[str, Any] = {
        ID: [row["id"] for row in rows],
        VERSION: [row.get("version") for row in rows],
        RETIRED: pa.nulls(len(rows), pa.bool_()),
        WRITE: [write] * len(rows),
        VECTORS: _vectors_array([row["vectors"] for row in rows], columns.field(VECTORS).type),
    }
    for name, kind in schema.fields.items():
        column = [row.get(name) for row in rows]
        if kind == "json":
            pairs = [_json_columns(document) for document in column]
            values[values_column(name)] = [tokens for tokens, _ in pairs]
            values[single_values_column(name)] = [text for _, text in pairs]
            column = [None if v is None else json.dumps(v, ensure_ascii=False) for v in column]
        elif kind == "tokens":
            values[tokens_column(name)] = [_distinct_tokens(text) for text in column]
        values[name] = column
    return pa.table(
        [
            v if isinstance(v, pa.Array) else pa.array(v, columns.field(c).type)
            for c, v in ((c, values[c]) for c in columns.names)
        ],
        schema=columns,
    )


def tombstones(schema: VectorSchema, versions: Mapping[str, str], write: int) -> pa.Table:
    """Rows that say that ids were retired."""
    columns, size = arrow_schema(schema), len(versions)
    values = {
        ID: pa.array(list(versions), pa.string()),
        VERSION: pa.array(list(versions.values()), pa.string()),
        RETIRED: pa.array([True] * size, pa.bool_()),
        WRITE: pa.array([write] * size, pa.int64()),
    }
    arrays = [values.get(c.name, pa.nulls(size, c.type)) for c in columns]
    return pa.table(arrays, schema=columns)


def from_arrow(
    table: pa.Table, schema: VectorSchema, fields: Iterable[str]
) -> list[dict[str, Any]]:
    """The rows of an answer, each with its id and the fields."""
    names = list(fields)
    parts = (table.slice(i, STEP) for i in range(0, table.num_rows, STEP))
    return [row for part in parts for row in _from_arrow(part, schema, names)]


def _from_arrow(
    table: pa.Table, schema: VectorSchema, fields: Sequence[str]
) -> list[dict[str, Any]]:
    columns = {ID: table[ID].to_pylist()}
    for name in fields:
        if name == VECTORS:
            columns[name] = _vectors_of(table[VECTORS], schema.dimension)
        elif schema.fields.get(name) == "json":
            texts = table[name].to_pylist()
            columns[name] = [None if text is None else json.loads(text) for text in texts]
        else:
            columns[name] = table[name].to_pylist()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _json_columns(document: Mapping[str, Any] | None) -> tuple[list[str], str | None]:
    if document is None:
        return [], None
    tokens: dict[str, bool] = {}
    single: dict[str, bool] = {}
    for path, value, listed in leaves(document):
        token = value_token(path, value)
        tokens[value_token(path, None)] = tokens[token] = True
        if not listed:
            single[token] = True
    return list(tokens), END.join(["", *single, ""])


def _distinct_tokens(text: str | None) -> list[str]:
    tokens = dict.fromkeys((text or "").split(" ")) | {ANY_TOKEN: None}
    return list(tokens) if len(tokens) > 1 else []


def _vectors_array(vectors: Sequence[np.ndarray], kind: pa.DataType) -> pa.Array:
    counts = [len(v) for v in vectors]
    flat = np.concatenate(vectors) if sum(counts) else np.zeros((0, 1), np.float32)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), type=kind.value_type)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    missing = pa.array([not count for count in counts], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), inner, type=kind, mask=missing)


def _vectors_of(column: pa.ChunkedArray, dimension: int) -> list[np.ndarray]:
    found = []
    for chunk in column.chunks:
        flat = chunk.values.values.to_numpy(zero_copy_only=False)
        start = chunk.values.offset
        rows = flat.reshape(-1, dimension)[start:] if len(flat) else np.zeros((0, dimension), "f4")
        offsets, valid = chunk.offsets.to_numpy(), chunk.is_valid().to_numpy(zero_copy_only=False)
        found += [
            rows[a:b] if ok else rows[:0]
            for a, b, ok in zip(offsets[:-1], offsets[1:], valid, strict=True)
        ]
    return found
