"""Rows as entities of Milvus, and back."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shoal.contract.errors import Invalid
from shoal.contract.vectors import FieldKind, VectorSchema

from .json_values import leaves, sortable, value_token
from .milvus_filters import TOKEN_COLUMNS, json_key, token_column
from .milvus_schema import BARE, FURTHER, HEAD, MAX_JSON_BYTES, MAX_LIST, RETIRED, key_of

EMPTY: dict[FieldKind, Any] = {"integer": 0, "float": 0.0, "boolean": False, "strings": []}
"""What stands for None; other kinds have an empty text."""
PRESENT, NONE, NOTHING = 0, 1, 2
"""Whether a field has a value: no value is None, or no texts."""


def entities_of(schema: VectorSchema, tenant: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entities of a checked row.

    Raises:
        Invalid: It has more texts in a list than Milvus takes.
    """
    vectors, fields = row["vectors"], dict[str, Any]()
    for name, kind in schema.fields.items():
        fields |= _columns(name, kind, row.get(name))
    own = _own(tenant, row["id"], row["version"])
    kind_of_head = HEAD if len(vectors) else BARE
    head = {**own, "pk": f"{own['row']}00", "kind": kind_of_head, **fields}
    head["vector"] = vectors[0] if len(vectors) else placeholder(schema)
    light = _without_texts(schema, fields)
    further = (
        {**own, "pk": f"{own['row']}{n:02x}", "kind": FURTHER, "vector": vector, **light}
        for n, vector in enumerate(vectors[1:], start=1)
    )
    return [head, *further]


def tombstone(schema: VectorSchema, tenant: str, row_id: str, version: str) -> dict[str, Any]:
    """The entity that says that a row was retired."""
    own = _own(tenant, row_id, version)
    fields = dict[str, Any]()
    for name, kind in schema.fields.items():
        fields |= _columns(name, kind, None)
    vector = placeholder(schema)
    return {**own, "pk": f"{own['row']}00", "kind": RETIRED, "vector": vector, **fields}


def placeholder(schema: VectorSchema) -> np.ndarray:
    """The vector of an entity that has none."""
    vector: np.ndarray = np.eye(1, schema.dimension, dtype=np.float32)[0]
    return vector


def stored_version(version: str | None) -> str:
    """A version as a column's text: None is empty."""
    return "" if version is None else f"v{version}"


def output_columns(schema: VectorSchema, fields: Iterable[str]) -> list[str]:
    """The columns that `row_of` needs for these fields."""
    found = ["pk", "row", "id", "kind", "stamp", "version"]
    for name in fields:
        if name in schema.fields:
            found += [f"f_{name}", f"a_{name}"]
    return found


def row_of(
    schema: VectorSchema, fields: Sequence[str], entity: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of a head's columns; `vectors` are left to the caller."""
    row: dict[str, Any] = {"id": entity["id"]}
    for name in fields:
        if name == "version":
            row[name] = entity["version"][1:] if entity["version"] else None
        elif name in schema.fields:
            row[name] = value_of(schema, name, entity)
    return row


def value_of(schema: VectorSchema, name: str, entity: Mapping[str, Any]) -> Any:
    """The value of one field of a head."""
    if entity[f"a_{name}"] == NONE:
        return None
    value, kind = entity[f"f_{name}"], schema.fields[name]
    if kind == "json":
        return json.loads(value)
    return list(value) if kind == "strings" else value


def _own(tenant: str, row_id: str, version: str | None) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "row": key_of(tenant, row_id),
        "id": row_id,
        "version": stored_version(version),
        # The entities of one write have the same one; others are of no account.
        "stamp": secrets.randbits(62),
    }


def _columns(name: str, kind: FieldKind, value: Any) -> dict[str, Any]:
    found = {f"f_{name}": EMPTY.get(kind, "") if value is None else value}
    found[f"a_{name}"] = PRESENT if value is not None else NONE
    if kind in ("strings", "tokens") and value is not None and not value:
        found[f"a_{name}"] = NOTHING
    if kind == "strings":
        found[f"f_{name}"] = _list(name, list(value or ()))
    elif kind == "tokens":
        shards: dict[str, list[str]] = {f"t{i}_{name}": [] for i in range(TOKEN_COLUMNS)}
        for token in dict.fromkeys((value or "").split(" ")):
            if token:
                shards[token_column(name, token)].append(token)
        found |= {column: _list(name, tokens) for column, tokens in shards.items()}
    elif kind == "json":
        found |= _json_columns(name, value)
    return found


def _json_columns(name: str, document: Mapping[str, Any] | None) -> dict[str, Any]:
    tokens, by_path = dict[str, None](), dict[str, str]()
    for path, value, listed in leaves(document or {}):
        tokens[value_token(path, None)] = tokens[value_token(path, value)] = None
        if not listed:
            by_path[json_key(path)] = sortable(value)
    text = "" if document is None else json.dumps(document, ensure_ascii=False)
    for what in (text, json.dumps(by_path, ensure_ascii=False)):
        if len(what.encode()) >= MAX_JSON_BYTES:
            raise Invalid(f"{name} is longer as JSON than the 65,535 bytes that Milvus takes")
    return {
        f"f_{name}": text,
        f"v_{name}": _list(name, list(tokens)),
        f"p_{name}": by_path,
    }


def _list(name: str, texts: Sequence[str]) -> list[str]:
    if len(texts) > MAX_LIST:
        raise Invalid(f"{name} has more different values than Milvus takes ({MAX_LIST:,})")
    return list(texts)


def _without_texts(schema: VectorSchema, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns without what only the first entity needs."""
    light = dict(fields)
    for name, kind in schema.fields.items():
        if kind in ("tokens", "stored", "json"):
            light[f"f_{name}"] = ""
        if kind == "tokens":
            light |= {f"t{i}_{name}": [] for i in range(TOKEN_COLUMNS)}
    return light
