"""What a view takes from an event: in Python as events arrive, in SQL from the archive.
The two say the same.
"""

from typing import Any, Protocol

from .registry import View
from .windows import Occurrence, needed_type

ATTRIBUTES = ("type", "id", "source", "subject")
"""Columns that are the event's own; every other name is a field of its data
(`data.type` where the names meet).
"""


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
    return any(
        t == event_type or (t.endswith("*") and event_type.startswith(t[:-1])) for t in view.types
    )


def occurrence(view: View, event: EventLike, time: int) -> Occurrence | None:
    """The event as the view sees it, or None when it names no entity. `time`: the
    event's, in µs since 1970.
    """
    for path in view.fields:
        entity = _id(_find(event, path))
        if entity:
            columns = {name: _find(event, name) for name in view.columns}
            return Occurrence(time, member(event.source, event.id), entity, columns)
    return None


def member(source: str, identity: str) -> str:
    """An event's name: unique, since source and id together are (CloudEvents 1.0,
    3.1.1).
    """
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
    if (
        isinstance(value, str)
        and 0 < len(value) <= 512
        and not any(ord(c) < 32 or ord(c) == 127 for c in value)
    ):
        return value
    return None


def select(view: View, relation: str) -> str:
    """SQL over an archive (columns id, source, type, time, subject, and data as JSON
    text) that gives one row per event of the view: entity, ts (µs), member, and a
    column `c0…` per pair of `columns(view)`. An event archived twice comes once: the
    one that was first accepted, as far as its time tells.
    """
    wanted = [p for p in (*view.fields, *(c for c, _ in columns(view))) if p not in ATTRIBUTES]
    paths = list(dict.fromkeys(wanted))
    # each event's data is parsed once, to the JSON texts of the fields; the first
    # character then tells the type
    texts = f", json_extract(data, [{', '.join(map(_json_path, paths))}]) AS js" if paths else ""
    fields = "".join(f", js[{i + 1}]::VARCHAR AS j{i}" for i in range(len(paths)))
    place = {p: f"j{i}" for i, p in enumerate(paths)}
    entity = "coalesce(" + ", ".join(_sql_id(place.get(p), p) for p in view.fields) + ")"
    taken = "".join(
        f", {_sql_value(place.get(c), c, dtype)} AS c{i}"
        for i, (c, dtype) in enumerate(columns(view))
    )
    firsts = "".join(f", arg_min_null(c{i}, ts) AS c{i}" for i in range(len(columns(view))))
    attributes = (
        "epoch_us(time) AS ts, source || chr(31) || id AS member, type, id, source, subject"
    )
    return f"""
        SELECT entity, min(ts) AS ts, member{firsts} FROM (
            SELECT {entity} AS entity, ts, member{taken} FROM (
                SELECT *{fields} FROM (
                    SELECT {attributes}{texts} FROM {relation}
                    WHERE {_sql_types(view)} AND time >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
        ))) WHERE entity IS NOT NULL GROUP BY entity, member"""


def columns(view: View) -> list[tuple[str, str]]:
    """Column and type of all that the view's aggregations read, each pair once."""
    return list(dict.fromkeys((f.column, needed_type(f)) for f in view.features if f.column))


def _sql_types(view: View) -> str:
    tests = (
        f"starts_with(type, {_text(t[:-1])})" if t.endswith("*") else f"type = {_text(t)}"
        for t in view.types
    )
    return f"({' OR '.join(tests)})"


def _sql_id(json: str | None, path: str) -> str:
    """The id that a field holds, or NULL: a text as it is, an integer as text."""
    if json is None:
        return f"CASE WHEN length({path}) BETWEEN 1 AND 512 AND NOT regexp_matches({path}, '{_CONTROL}') THEN {path} END"
    text = f"json_extract_string({json}, '$')"
    awkward = f"contains({json}, '\\') OR contains({json}, chr(127)) OR length({json}) NOT BETWEEN 3 AND 514"
    return (
        f"CASE WHEN {_WHOLE.format(json)} AND length({json}) <= 512 THEN {json} WHEN starts_with({json}, '\"') THEN CASE WHEN {awkward} "
        f"THEN CASE WHEN length({text}) BETWEEN 1 AND 512 AND NOT regexp_matches({text}, '{_CONTROL}') THEN {text} END "
        f"ELSE substr({json}, 2, length({json}) - 2) END END"
    )


def _sql_value(json: str | None, column: str, dtype: str) -> str:
    """What an aggregation that needs `dtype` takes from a field, or NULL."""
    if json is None:
        return {"": f"to_json({column})::VARCHAR", "string": column}.get(dtype, "NULL")
    text = f"CASE WHEN contains({json}, '\\') THEN json_extract_string({json}, '$') ELSE substr({json}, 2, length({json}) - 2) END"
    scalar = f"left({json}, 1) NOT IN ('{{', '[', 'n')"
    number = f"left({json}, 1) IN ('-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9')"
    double = f"try_cast({json} AS DOUBLE)"
    if dtype == "":
        return f"CASE WHEN {scalar} THEN {json} END"
    if dtype == "string":
        return f"CASE WHEN starts_with({json}, '\"') THEN {text} WHEN {scalar} THEN {json} END"
    if dtype == "bool":
        return f"CASE WHEN {json} IN ('true', 'false') THEN {json} = 'true' END"
    if dtype == "unix_timestamp":
        zoned = f"regexp_matches({json}, '(Z|[+-][0-9]{{2}}:?[0-9]{{2}})\"$')"
        return f"CASE WHEN starts_with({json}, '\"') AND {zoned} THEN try_cast({text} AS TIMESTAMPTZ) END"
    if dtype in ("int32", "int64"):
        bits = "INTEGER" if dtype == "int32" else "BIGINT"
        whole = f"({_WHOLE.format(json)} OR {double} = floor({double}))"
        return f"CASE WHEN {number} AND {whole} THEN try_cast(try_cast({json} AS DECIMAL(38, 0)) AS {bits}) END"
    return f"CASE WHEN {number} AND isfinite({double}) THEN {double} END"


_CONTROL = "[\\x00-\\x1f\\x7f]"
_WHOLE = "regexp_full_match({0}, '-?[0-9]+')"


def _json_path(path: str) -> str:
    parts = path.removeprefix("data.").split(".")
    return _text("$" + "".join('."' + p.replace('"', '\\"') + '"' for p in parts))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
