"""Collections in Milvus: their names, columns, indexes and rows."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from pymilvus import DataType, Function, FunctionType

from shoal.contract.errors import Invalid
from shoal.contract.stores import VectorSchema

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
OWN = frozenset({"id", "vector", "text", "text_sparse"})
"""Columns that a schema's fields may not be named after."""
TEXT_BYTES = 65_535
"""The largest VARCHAR of Milvus."""
ID_BYTES = 2_048
TYPES = {
    "string": DataType.VARCHAR,
    "integer": DataType.INT64,
    "float": DataType.DOUBLE,
    "boolean": DataType.BOOL,
}


def collection_name(tenant: str, name: str) -> str:
    """The collection's name in Milvus, different for each tenant and name.

    A tenant's id has no capital letters, so they delimit it.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Invalid("a collection name is 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    return f"{name_prefix(tenant)}{name}"


def name_prefix(tenant: str) -> str:
    """The prefix of the names of a tenant's collections, and of no other's."""
    return f"T_{tenant.replace('-', 'M')}_N_"


def columns(schema: VectorSchema) -> dict[str, tuple[DataType, int]]:
    """The columns by name, each with its type and (of a vector) its dimension."""
    found = {"id": (DataType.VARCHAR, 0), "vector": (DataType.FLOAT_VECTOR, schema.dimension)}
    found |= {name: (TYPES[kind], 0) for name, kind in schema.fields.items()}
    if schema.text:
        found |= {"text": (DataType.VARCHAR, 0), "text_sparse": (DataType.SPARSE_FLOAT_VECTOR, 0)}
    return found


def milvus_schema(client: Any, schema: VectorSchema) -> Any:
    """The schema for pymilvus."""
    for name in schema.fields:
        if name in OWN or not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is not a valid field name")
    made = client.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=schema.dimension)
    for name, kind in schema.fields.items():
        made.add_field(
            name,
            TYPES[kind],
            nullable=True,
            **({"max_length": TEXT_BYTES} if kind == "string" else {}),
        )
    if schema.text:
        analyzer = {"tokenizer": "standard"}
        made.add_field(
            "text",
            DataType.VARCHAR,
            max_length=TEXT_BYTES,
            enable_analyzer=True,
            analyzer_params=analyzer,
        )
        made.add_field("text_sparse", DataType.SPARSE_FLOAT_VECTOR)
        made.add_function(Function("bm25", FunctionType.BM25, ["text"], ["text_sparse"]))
    return made


def indexes(client: Any, schema: VectorSchema) -> dict[str, Any]:
    """Index parameters by column, apart, so that they are created concurrently."""
    params: dict[str, dict[str, Any]] = {"vector": {"index_type": "FLAT", "metric_type": "COSINE"}}
    if schema.text:
        tuning = {"bm25_k1": schema.bm25_k1, "bm25_b": schema.bm25_b}
        params["text_sparse"] = {
            "index_type": "SPARSE_INVERTED_INDEX",
            "metric_type": "BM25",
            "params": tuning,
        }
    made = {}
    for column, given in params.items():
        made[column] = client.prepare_index_params()
        made[column].add_index(field_name=column, **given)
    return made


def finite_vector(vector: Any) -> "np.ndarray | None":
    """The vector as float32; None when it is not finite numbers."""
    try:
        found = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        return None
    return found if found.ndim == 1 and np.isfinite(found).all() else None


def check_row(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row to send; Invalid, with the location, when it cannot be stored."""

    def refuse(name: str, message: str) -> Invalid:
        return Invalid(
            f"row {i}: {name} {message}", errors=[{"location": f"{i}.{name}", "message": message}]
        )

    for name, value in row.items():
        if isinstance(value, str):
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                raise refuse(name, "cannot be stored as text") from None
            limit = ID_BYTES if name == "id" else TEXT_BYTES
            if size > limit:
                raise refuse(name, f"is longer than {limit} bytes")
        elif isinstance(value, float) and not math.isfinite(value):
            raise refuse(name, "is not finite")
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise refuse("id", "must be a non-empty string")
    vector = finite_vector(row.get("vector"))
    if vector is None:
        raise refuse("vector", "must be a list of finite numbers")
    return {**row, "vector": vector}
