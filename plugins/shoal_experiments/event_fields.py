"""Fields of events' data as typed Arrow columns, read from JSON text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

NUMBER, TEXT, FLAG = pa.float64(), pa.string(), pa.bool_()
CHUNK_ROWS = 250_000


def field_type(value: str | int | float | bool) -> pa.DataType:
    """The column type that a value is compared with."""
    return FLAG if isinstance(value, bool) else TEXT if isinstance(value, str) else NUMBER


def read_fields(data: pa.ChunkedArray, kinds: Mapping[str, pa.DataType]) -> dict[str, pa.Array]:
    """Read fields from JSON objects.

    Args:
        data: JSON texts, shape (n,).
        kinds: Type of each field, by name. A dot in a name leads into an object.

    Returns:
        One array of shape (n,) per field. A missing value is null. In a number's
        column, true is 1, false is 0, and any other value is NaN; in other columns, a
        value of another type is null.
    """
    parts = []
    for start in range(0, max(len(data), 1), CHUNK_ROWS):
        chunk = data.slice(start, CHUNK_ROWS)
        try:  # Arrow is faster, but reads only values that all have the types asked for
            parts.append(_read_with_arrow(chunk, kinds))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            parts.append(_read_row_by_row(chunk, kinds))
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in kinds}


def _read_with_arrow(
    data: pa.ChunkedArray, kinds: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    if not len(data):
        return {name: pa.array([], kind) for name, kind in kinds.items()}
    texts = pc.fill_null(data, "{}")
    texts = pc.if_else(pc.starts_with(texts, "{"), texts, "{}").combine_chunks()
    lines = pc.binary_join(
        pa.LargeListArray.from_arrays(pa.array([0, len(texts)], pa.int64()), texts), "\n"
    )[0].as_buffer()
    options = pj.ParseOptions(explicit_schema=_schema(kinds), unexpected_field_behavior="ignore")
    table = pj.read_json(io.BytesIO(lines), pj.ReadOptions(block_size=1 << 23), options)
    if table.num_rows != len(data):
        raise pa.ArrowInvalid("a text is not exactly one object")
    columns = {}
    for name in kinds:
        path = name.split(".")
        column = table[path[0]].combine_chunks()
        for key in path[1:]:
            column = pc.struct_field(column, key)
        columns[name] = column if isinstance(column, pa.Array) else column.combine_chunks()
    return columns


def _schema(kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    tree: dict[str, Any] = {}
    for name, kind in kinds.items():
        *path, last = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise pa.ArrowInvalid("a field is both a value and an object")
        if last in node:
            raise pa.ArrowInvalid("a field is both a value and an object")
        node[last] = kind
    return pa.schema(list(_arrow_fields(tree)))


def _arrow_fields(tree: Mapping[str, Any]) -> Iterator[pa.Field]:
    for key, value in tree.items():
        kind = pa.struct(list(_arrow_fields(value))) if isinstance(value, dict) else value
        yield pa.field(key, kind)


def _read_row_by_row(
    data: pa.ChunkedArray, kinds: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    paths = {name: name.split(".") for name in kinds}
    for text in data.to_pylist():
        try:
            parsed = orjson.loads(text) if text else None
        except orjson.JSONDecodeError:
            parsed = None
        for name, path in paths.items():
            value = parsed
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            columns[name].append(_convert(value, kinds[name]))
    return {name: pa.array(values, kinds[name]) for name, values in columns.items()}


def _convert(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if kind == NUMBER:
        return float(value) if isinstance(value, bool | int | float) else float("nan")
    return value if isinstance(value, str if kind == TEXT else bool) else None
