"""What a view reads from an event: in Python as events arrive, in SQL from the archive.

Both sides give the same rows for the same events.
"""

from typing import Any, Protocol

import orjson

from .values import parse_time, to_micros
from .views import View
from .windows import EventRow, required_type

ATTRIBUTES = ("type", "id", "source", "subject")
"""Columns that are attributes of the event. Every other name is a field of its data;
`data.type` is the field where both have the name.
"""

TIME_MICROS, REAL_TEXT = "shoal_time_micros", "shoal_real_text"
"""Functions of the engine: the parser of times and the formatter of numbers that are
used online, from JSON text. See `register_functions`.
"""

_CONTROL = "[\\x00-\\x1f\\x7f]"
_INTEGER = "regexp_full_match({0}, '-?[0-9]+')"
_DIGITS = ", ".join(f"'{c}'" for c in "-0123456789")


class EventLike(Protocol):
    """The parts of a CloudEvent that views read. `time` has a zone."""

    id: str
    source: str
    type: str
    time: Any
    subject: str | None
    data: Any


def is_read_by(view: View, event_type: str) -> bool:
    """Whether a view reads events of this type."""
    return any(
        t == event_type or (t.endswith("*") and event_type.startswith(t[:-1])) for t in view.types
    )


def event_row(view: View, event: EventLike, time: int) -> EventRow | None:
    """An event as a view reads it.

    Args:
        view: A view that reads events of this type.
        event: The event.
        time: Its time in µs since 1970.

    Returns:
        None when the event names no entity.
    """
    for path in view.fields:
        entity = _as_id(_find(event, path))
        if entity:
            columns = {name: _find(event, name) for name in view.columns}
            return EventRow(time, event_member(event.source, event.id), entity, columns)
    return None


def is_about(view: View, event: EventLike, entity: str) -> bool:
    """Whether a view reads an event, and as one of an entity."""
    row = event_row(view, event, 0) if is_read_by(view, event.type) else None
    return row is not None and row.entity == entity


def event_member(source: str, event_id: str) -> str:
    """A unique name of an event, made of its source and id (CloudEvents 1.0, 3.1.1)."""
    return f"{source}\x1f{event_id}"


def read_columns(view: View) -> list[tuple[str, str]]:
    """Column and type of all that a view's aggregations read, each pair once."""
    return list(dict.fromkeys((f.column, required_type(f)) for f in view.features if f.column))


def register_functions(con: Any) -> None:
    """Give a DuckDB connection the functions that `event_rows_sql` uses."""
    for name, function, result in (
        (TIME_MICROS, _time_micros, "BIGINT"),
        (REAL_TEXT, _real_text, "VARCHAR"),
    ):
        con.create_function(name, function, ["VARCHAR"], result, null_handling="special")


def _time_micros(text: str | None) -> int | None:
    try:
        return None if text is None else to_micros(parse_time(text))
    except ValueError:
        return None


def _real_text(json: str | None) -> str | None:
    return None if json is None else orjson.dumps(orjson.loads(json)).decode()


def event_rows_sql(view: View, relation: str) -> str:
    """A query that reads a view's events from an archive.

    Args:
        view: The view.
        relation: What to select from: columns id, source, type, time, subject, and data
            as JSON text.

    Returns:
        SQL for one row per event: entity, ts (µs), member, and a column `c0…` per pair
        of `read_columns(view)`. Of an event archived twice, the earlier one counts.
    """
    names = [p for p in (*view.fields, *(c for c, _ in read_columns(view))) if p not in ATTRIBUTES]
    paths = list(dict.fromkeys(names))
    # The data is parsed once, to the JSON texts of the fields; the first character of
    # each text then tells its type.
    texts = f", json_extract(data, [{', '.join(map(_json_path, paths))}]) AS js" if paths else ""
    fields = "".join(f", js[{i + 1}]::VARCHAR AS j{i}" for i in range(len(paths)))
    position = {p: f"j{i}" for i, p in enumerate(paths)}
    entity = "coalesce(" + ", ".join(_id_sql(position.get(p), p) for p in view.fields) + ")"
    values = "".join(
        f", {_value_sql(position.get(c), c, dtype)} AS c{i}"
        for i, (c, dtype) in enumerate(read_columns(view))
    )
    earliest = "".join(f", arg_min_null(c{i}, ts) AS c{i}" for i in range(len(read_columns(view))))
    attributes = (
        "epoch_us(time) AS ts, source || chr(31) || id AS member, type, id, source, subject"
    )
    return f"""
        SELECT entity, min(ts) AS ts, member{earliest} FROM (
            SELECT {entity} AS entity, ts, member{values} FROM (
                SELECT *{fields} FROM (
                    SELECT {attributes}{texts} FROM {relation}
                    WHERE {_types_sql(view)} AND time >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
        ))) WHERE entity IS NOT NULL GROUP BY entity, member"""


def _find(event: EventLike, path: str) -> Any:
    if path in ATTRIBUTES:
        return getattr(event, path)
    value = event.data
    for part in path.removeprefix("data.").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _as_id(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= 512:
        return None
    return None if any(ord(c) < 32 or ord(c) == 127 for c in value) else value


def _types_sql(view: View) -> str:
    tests = (
        f"starts_with(type, {_literal(t[:-1])})" if t.endswith("*") else f"type = {_literal(t)}"
        for t in view.types
    )
    return f"({' OR '.join(tests)})"


def _id_sql(json: str | None, path: str) -> str:
    """The id in a field, or NULL: text as it is, an integer as text."""
    if json is None:
        return f"CASE WHEN {_is_id_sql(path)} THEN {path} END"
    text = f"json_extract_string({json}, '$')"
    needs_decoding = (
        f"contains({json}, '\\') OR contains({json}, chr(127))"
        f" OR length({json}) NOT BETWEEN 3 AND 514"
    )
    return (
        f"CASE WHEN {_INTEGER.format(json)} AND length({json}) <= 512 THEN {json}"
        f" WHEN starts_with({json}, '\"') THEN CASE WHEN {needs_decoding}"
        f" THEN CASE WHEN {_is_id_sql(text)} THEN {text} END"
        f" ELSE substr({json}, 2, length({json}) - 2) END END"
    )


def _is_id_sql(text: str) -> str:
    return f"length({text}) BETWEEN 1 AND 512 AND NOT regexp_matches({text}, '{_CONTROL}')"


def _value_sql(json: str | None, column: str, dtype: str) -> str:
    """What an aggregation that needs `dtype` reads from a field, or NULL."""
    if json is None:
        return {"": f"to_json({column})::VARCHAR", "string": column}.get(dtype, "NULL")
    text = (
        f"CASE WHEN contains({json}, '\\') THEN json_extract_string({json}, '$')"
        f" ELSE substr({json}, 2, length({json}) - 2) END"
    )
    is_text = f"starts_with({json}, '\"')"
    is_scalar = f"left({json}, 1) NOT IN ('{{', '[', 'n')"
    is_real = f"left({json}, 1) IN ({_DIGITS}) AND NOT {_INTEGER.format(json)}"
    scalar = f"CASE WHEN {is_real} THEN {REAL_TEXT}({json}) WHEN {is_scalar} THEN {json} END"
    if dtype == "":
        return scalar
    if dtype == "string":
        return f"CASE WHEN {is_text} THEN {text} ELSE {scalar} END"
    if dtype == "bool":
        return f"CASE WHEN {json} IN ('true', 'false') THEN {json} = 'true' END"
    if dtype == "unix_timestamp":
        return f"CASE WHEN {is_text} THEN make_timestamptz({TIME_MICROS}({text})) END"
    return _number_sql(json, dtype)


def _number_sql(json: str, dtype: str) -> str:
    is_number = f"left({json}, 1) IN ({_DIGITS})"
    double = f"try_cast({json} AS DOUBLE)"
    if dtype in ("int32", "int64"):
        sql_type = "INTEGER" if dtype == "int32" else "BIGINT"
        return (
            f"CASE WHEN NOT {is_number} THEN NULL"
            f" WHEN {_INTEGER.format(json)} THEN try_cast({json} AS {sql_type})"
            f" WHEN {double} = floor({double}) THEN try_cast({double} AS {sql_type}) END"
        )
    return f"CASE WHEN {is_number} AND isfinite({double}) THEN {double} END"


def _json_path(path: str) -> str:
    parts = path.removeprefix("data.").split(".")
    return _literal("$" + "".join('."' + p.replace('"', '\\"') + '"' for p in parts))


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
