"""What is checked of rows, vectors, fields and names before a backend gets them."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shoal.contract.errors import Conflict, Invalid
from shoal.contract.vectors import (
    MAX_ID_BYTES,
    MAX_LIMIT,
    MAX_TEXT_BYTES,
    MAX_TOKENS,
    MAX_VECTORS,
    FieldKind,
    VectorSchema,
)

from .condition_values import MAX_INTEGER, can_be_token, field_kind
from .json_values import leaves

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_VERSION_BYTES = 255


def check_name(name: str) -> str:
    """A collection's name; Invalid for others."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Invalid("a collection name is 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    return name


def check_limit(limit: int) -> int:
    """The largest number of rows of an answer; Invalid above what is allowed."""
    if limit > MAX_LIMIT:
        raise Invalid(f"an answer has at most {MAX_LIMIT} rows, not {limit}")
    return limit


def check_fields(schema: VectorSchema, fields: Sequence[str]) -> list[str]:
    """The fields that are asked for, besides the id; Invalid where there is no such."""
    for name in fields:
        if name not in schema.fields and name not in ("id", "vectors", "version"):
            raise Invalid(f"the collection has no field {name!r}")
    return [name for name in dict.fromkeys(fields) if name != "id"]


def check_facet(schema: VectorSchema, field: str) -> tuple[str, FieldKind, str]:
    """A field whose values can be counted, as `field_kind` has it, or Invalid."""
    own, kind, path = field_kind(schema, field)
    if kind in ("tokens", "stored") or own == "id":
        raise Invalid(f"the field {field} has no facets")
    return own, kind, path


def check_tokens(
    schema: VectorSchema, field: str, tokens: Sequence[str | tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """What a search for tokens looks for: tuples that a row must have all tokens of.

    Those that no row can have are left out; Invalid where there are too many, or where
    the field has none.
    """
    if schema.fields.get(field) != "tokens":
        raise Invalid(f"the collection has no field {field!r} of tokens")
    groups = [(token,) if isinstance(token, str) else tuple(token) for token in tokens]
    if sum(map(len, groups)) > MAX_TOKENS:
        raise Invalid(f"a search is for at most {MAX_TOKENS} tokens")
    return [group for group in dict.fromkeys(groups) if group and all(map(can_be_token, group))]


def check_sort(schema: VectorSchema, field: str) -> None:
    """Invalid where rows cannot be listed by a field."""
    _, kind, path = field_kind(schema, field)
    if kind not in ("string", "integer", "float", "boolean") or path:
        raise Invalid(f"rows cannot be sorted by {field}")


def check_same(name: str, found: VectorSchema, wanted: VectorSchema) -> None:
    """Conflict where a collection has another schema than is wanted."""
    fields = {**found.fields, "": found.dimension}
    others = {**wanted.fields, "": wanted.dimension}
    differing = sorted(
        k or "the dimension"
        for k in fields.keys() | others.keys()
        if fields.get(k) != others.get(k)
    )
    if differing:
        raise Conflict(f"the collection {name} exists with another schema: {', '.join(differing)}")


def in_batches(keys: Sequence[str], size: int) -> Iterator[list[str]]:
    return (list(keys[i : i + size]) for i in range(0, len(keys), size))


def check_ids(ids: Sequence[str]) -> list[str]:
    """Ids without repetition; those that no row can have are left out."""
    if any(not isinstance(i, str) for i in ids):
        raise Invalid("ids must be strings")
    return [i for i in dict.fromkeys(ids) if _text_fault(i, MAX_ID_BYTES) is None]


def check_query(vector: Any, dimension: int) -> np.ndarray:
    """A query's vector as float32 of length 1."""
    try:
        found = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        found = np.zeros(0, np.float32)
    if found.shape != (dimension,):
        raise Invalid(f"the query vector must be a list of {dimension} numbers")
    if not _have_direction(found[None]):
        raise Invalid("the query vector must have finite numbers, of which one is not zero")
    return np.asarray(found / np.linalg.norm(found), np.float32)


def check_rows(
    schema: VectorSchema, rows: Sequence[Mapping[str, Any]], start: int = 0
) -> list[dict[str, Any]]:
    """The rows as they are stored.

    Raises:
        Invalid: A row cannot be stored; `errors` locates the fault.
    """
    return [_check_row(schema, start + i, row) for i, row in enumerate(rows)]


def check_versions(versions: Mapping[str, str]) -> None:
    """Invalid where an id or a version is not one."""
    for i, (key, version) in enumerate(versions.items()):
        if fault := _id_fault(key):
            raise _refuse(i, "id", fault)
        if version is None or (fault := _version_fault(version)):
            raise _refuse(i, "version", fault or "must be a text")


def _check_row(schema: VectorSchema, i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if fault := _id_fault(row.get("id")):
        raise _refuse(i, "id", fault)
    if fault := _version_fault(row.get("version")):
        raise _refuse(i, "version", fault)
    checked = {"id": row["id"], "version": row.get("version")}
    for name, value in row.items():
        if name in ("id", "version", "vectors"):
            continue
        if name not in schema.fields:
            raise _refuse(i, name, "is not a field of the collection")
        if value is not None and (fault := _value_fault(schema.fields[name], value)):
            raise _refuse(i, name, fault)
        checked[name] = (
            value + 0.0 if schema.fields[name] == "float" and value is not None else value
        )
    checked["vectors"] = _check_vectors(i, row.get("vectors", ()), schema.dimension)
    return checked


def _check_vectors(i: int, vectors: Any, dimension: int) -> np.ndarray:
    try:
        found = np.asarray(vectors, np.float32)
    except (TypeError, ValueError):
        raise _refuse(i, "vectors", "must be lists of numbers") from None
    if found.size == 0:
        return np.zeros((0, dimension), np.float32)
    if found.ndim != 2 or found.shape[1] != dimension:
        raise _refuse(i, "vectors", f"must be lists of {dimension} numbers")
    if len(found) > MAX_VECTORS:
        raise _refuse(i, "vectors", f"are more than {MAX_VECTORS}")
    if not _have_direction(found):
        raise _refuse(i, "vectors", "must have finite numbers, of which one in each is not zero")
    return found


def _have_direction(vectors: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
    return bool((np.isfinite(squares) & (squares > 1e-30)).all())


def _id_fault(key: Any) -> str | None:
    if not isinstance(key, str) or not key:
        return "must be a non-empty string"
    return _text_fault(key, MAX_ID_BYTES)


def _version_fault(version: Any) -> str | None:
    if version is not None and not isinstance(version, str):
        return "must be a text"
    return None if version is None else _text_fault(version, MAX_VERSION_BYTES)


def _text_fault(text: str, limit: int) -> str | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "cannot be stored as text"
    return f"is longer than {limit} bytes" if size > limit else None


def _value_fault(kind: FieldKind, value: Any) -> str | None:
    if kind in ("string", "tokens", "stored"):
        return _text_fault(value, MAX_TEXT_BYTES) if isinstance(value, str) else "must be a text"
    if kind == "strings":
        if not isinstance(value, list | tuple) or any(not isinstance(v, str) for v in value):
            return "must be a list of texts"
        return _text_fault("".join(value), MAX_TEXT_BYTES)
    if kind == "boolean":
        return None if isinstance(value, bool) else "must be true or false"
    if kind == "json":
        return _json_fault(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if kind == "integer":
        whole = isinstance(value, int) and abs(value) <= MAX_INTEGER
        return None if whole else "must be an integer of 64 bits"
    return None if _is_finite(value) else "is not finite"


def _json_fault(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be an object"
    size = 0
    for path, leaf, _ in leaves(value):
        if not isinstance(leaf, str | int | float):
            return "must have texts, numbers, booleans, lists and objects"
        if isinstance(leaf, float) and not _is_finite(leaf):
            return "has a number that is not finite"
        text = f"{path}{leaf}"
        if fault := _text_fault(text, MAX_TEXT_BYTES):
            return fault
        size += len(text.encode())
    return f"is longer than {MAX_TEXT_BYTES} bytes" if size > MAX_TEXT_BYTES else None


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _refuse(i: int, name: str, message: str) -> Invalid:
    return Invalid(
        f"row {i}: {name} {message}", errors=[{"location": f"{i}.{name}", "message": message}]
    )
