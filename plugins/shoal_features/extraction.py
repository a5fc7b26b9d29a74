"""What a view takes from an event: in Python as events arrive, in SQL from the archive. The two say the same."""

from typing import Any, Protocol

from .registry import View
from .windows import Occurrence, needed_type

ATTRIBUTES = ("type", "id", "source", "subject")
"""Columns that are the event's own; every other name is a field of its data (`data.type` where the names meet)."""


class EventLike(Protocol):
    """The parts of a CloudEvent that are read. `time` has a zone."""

    id: str
    source: str
    type: str
    time: Any
    subject: str | None
    data: Any


def reads(view: View, event_type: str) -> bool:
    """Whether the view takes events of this type."""
    return any(t == event_type or (t.endswith("*") and event_type.startswith(t[:-1])) for t in view.types)


def occurrence(view: View, event: EventLike, time: int) -> Occurrence | None:
    """The event as the view sees it, or None when it names no entity. `time`: the event's, in µs since 1970."""
    for path in view.fields:
        entity = _id(_find(event, path))
        if entity:
            columns = {name: _find(event, name) for name in view.columns}
            return Occurrence(time, member(event.source, event.id), entity, columns)
    return None


def member(source: str, identity: str) -> str:
    """An event's name: unique, since source and id together are (CloudEvents 1.0, 3.1.1)."""
    return f"{source}\x1f{identity}"


def _find(event: EventLike, path: str) -> Any:
    if path in ATTRIBUTES:
        return getattr(event, path)
    value = event.data
    for part in path.removeprefix("data.").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _id(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value) <= 512 and not any(ord(c) < 32 or ord(c) == 127 for c in value):
        return value
    return None


def select(view: View, relation: str) -> str:
    """SQL over an archive (columns id, source, type, time, subject, and data as JSON text) that gives one row per event
    of the view: entity, time (µs), member, and a column `c0…` per pair of `columns(view)`. An event archived twice comes
    once: the one that was first accepted, as far as its time tells."""
    entity = "coalesce(" + ", ".join(_sql_id(p) for p in view.fields) + ")"
    taken = ", ".join(f"{_sql_value(column, dtype)} AS c{i}" for i, (column, dtype) in enumerate(columns(view)))
    firsts = "".join(f", arg_min_null(c{i}, ts) AS c{i}" for i in range(len(columns(view))))
    return f"""
        SELECT entity, min(ts) AS ts, member{firsts} FROM (
            SELECT {entity} AS entity, epoch_us(time) AS ts, source || chr(31) || id AS member{", " + taken if taken else ""}
            FROM {relation} WHERE {_sql_types(view)} AND time >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
        ) WHERE entity IS NOT NULL GROUP BY entity, member"""


def columns(view: View) -> list[tuple[str, str]]:
    """Column and type of all that the view's aggregations read, each pair once."""
    return list(dict.fromkeys((f.column, needed_type(f)) for f in view.features if f.column))


def _sql_types(view: View) -> str:
    return "(" + " OR ".join(
        f"starts_with(type, {_text(t[:-1])})" if t.endswith("*") else f"type = {_text(t)}" for t in view.types
    ) + ")"  # fmt: skip


def _sql_id(path: str) -> str:
    if path in ATTRIBUTES:
        raw = path
    else:
        at = _json_path(path)
        raw = f"CASE WHEN json_type(data, {at}) IN ('VARCHAR', 'BIGINT', 'UBIGINT') THEN json_extract_string(data, {at}) END"
    return (
        f"(SELECT i FROM (SELECT {raw} AS i) WHERE length(i) BETWEEN 1 AND 512 AND NOT regexp_matches(i, '[\\x00-\\x1f\\x7f]'))"
    )


def _sql_value(column: str, dtype: str) -> str:
    if column in ATTRIBUTES:
        return {"": f"to_json({column})::VARCHAR", "string": column}.get(dtype, "NULL")
    at = _json_path(column)
    kind, text = f"json_type(data, {at})", f"json_extract_string(data, {at})"
    number = f"{kind} IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
    scalar = f"{kind} NOT IN ('OBJECT', 'ARRAY', 'NULL')"
    double = f"try_cast({text} AS DOUBLE)"
    if dtype == "":
        return f"CASE WHEN {scalar} THEN json_extract(data, {at})::VARCHAR END"
    if dtype == "string":
        return f"CASE WHEN {scalar} THEN {text} END"
    if dtype == "bool":
        return f"CASE WHEN {kind} = 'BOOLEAN' THEN {text} = 'true' END"
    if dtype == "unix_timestamp":
        zoned = f"regexp_matches({text}, '(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$')"
        return f"CASE WHEN {kind} = 'VARCHAR' AND {zoned} THEN try_cast({text} AS TIMESTAMPTZ) END"
    if dtype in ("int32", "int64"):
        bits = "INTEGER" if dtype == "int32" else "BIGINT"
        whole = f"({kind} <> 'DOUBLE' OR {double} = floor({double}))"
        return f"CASE WHEN {number} AND {whole} THEN try_cast(try_cast({text} AS DECIMAL(38, 0)) AS {bits}) END"
    return f"CASE WHEN {number} AND isfinite({double}) THEN {double} END"


def _json_path(path: str) -> str:
    parts = path.removeprefix("data.").split(".")
    return _text("$" + "".join('."' + p.replace('"', '\\"') + '"' for p in parts))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
