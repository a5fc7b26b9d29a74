"""The body of a point-in-time request: which features, of which entity rows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc

from shoal import Invalid, RowError

from .aggregation import TIME
from .errors import error_entry, invalid
from .registry import Registry
from .rows import EARLIEST, LATEST, entity_id
from .values import parse_time, to_micros

FIELDS = frozenset({"entities", "features", "entity", "as_of", "known_by", "tenant", "time_zone"})
NOT_IDS = frozenset({"event_timestamp", "known_by", "tenant_id"})
"""Columns of entity rows that are neither an id nor the caller's own."""
MAX_COLUMNS = 100
"""Columns of entity rows."""
MAX_ERRORS = 100
AT_ONCE = 10_000
"""Values that are converted to Arrow at once."""


@dataclass(frozen=True)
class HistoricalRequest:
    """A point-in-time request.

    Attributes:
        entity: The entity type.
        key: The column that identifies the entity, as the caller names it.
        features: Their names.
        rows: The entity rows (see `historical_query.ENTITY_ROWS`); None with `as_of`.
        as_of: One time, for all entities.
        known_by: One cutoff for all rows.
        cutoff: Whether each row has its own cutoff.
        own: Other columns of the entity rows, such as labels, which are given back.
    """

    entity: str
    key: str
    features: list[str]
    rows: pa.Table | None
    as_of: datetime | None
    known_by: datetime | None
    cutoff: bool
    own: pa.Table | None = None

    def add_own(self, table: pa.Table) -> pa.Table:
        """Put the caller's own columns before the features of the joined rows."""
        if self.own is None:
            return table
        at = 3 if self.cutoff else 2
        columns = dict(zip(table.column_names, table.columns, strict=True))
        names = list(columns)
        own = dict(zip(self.own.column_names, self.own.columns, strict=True))
        if taken := [name for name in own if name in columns]:
            raise invalid(f"entities.0.{taken[0]}", "a feature has this name; rename the column")
        return pa.table({n: (columns | own)[n] for n in [*names[:at], *own, *names[at:]]})


def parse_historical_request(body: Any, registry: Registry) -> HistoricalRequest:
    """Parse a body whose `entities` are a list (JSON) or an Arrow table (Parquet).

    Raises:
        Invalid: With every fault of the first hundred rows that have any.
    """
    if not isinstance(body, dict):
        raise invalid("body", "must be an object with `entities` and `features`")
    unknown = set(body) - FIELDS
    if unknown:
        raise invalid(min(unknown) or '""', "unknown field")
    features = body.get("features")
    if not features or not isinstance(features, list) or not _are_texts(features):
        raise invalid("features", "must be a list of feature names")
    zone = parse_zone(body.get("time_zone"))
    as_of, known_by = (_parse_field(body, name, zone) for name in ("as_of", "known_by"))
    entity = body.get("entity") or None
    _check_entity(entity, registry)
    entities = body.get("entities")
    if as_of is not None:
        if entities is not None:
            raise invalid("as_of", "give either `entities` with their own times, or `as_of`")
        if entity is None:
            entity = registry.entities[0] if len(registry.entities) == 1 else ""
        key = registry.join_key(entity) if entity else ""
        return HistoricalRequest(entity, key, features, None, as_of, known_by, False)
    rows, key, entity = parse_entity_rows(entities, registry, entity, features, zone)
    if known_by is not None and "known_by" in rows.column_names:
        raise invalid("known_by", "give it either for all rows or as their column")
    cutoff, own = "known_by" in rows.column_names, own_columns(entities, key)
    return HistoricalRequest(entity, key, features, rows, None, known_by, cutoff, own)


def parse_entity_rows(
    entities: Any,
    registry: Registry,
    entity: str | None,
    features: list[str],
    zone: ZoneInfo | None = None,
) -> tuple[pa.Table, str, str]:
    """Parse entity rows.

    Args:
        entities: A list of objects or an Arrow table, with the entity's id by its type
            or join key, `event_timestamp`, and perhaps `known_by`.
        registry: The tenant's definitions.
        entity: The entity type, where the caller gives it.
        features: Names of features, which decide between types with one join key, and
            between columns that could be the id.
        zone: Where times without a zone are.

    Returns:
        The rows (see `historical_query.ENTITY_ROWS`; the metadata of the schema has the
        entity type), the caller's name of the id's column, and the entity type.

    Raises:
        Invalid: With every fault of the first hundred rows that have any.
    """
    _check_entity(entity, registry)
    keys = {v.entity: v.join_key for v in registry.views}

    def find_key(names: Collection[str], location: str) -> str:
        return _entity_column(names, keys, entity, location, registry, features)

    if isinstance(entities, pa.Table):
        key = find_key(entities.column_names, "body")
        rows = _rows_of_table(entities, key, zone)
    elif isinstance(entities, list):
        first = entities[0] if entities and isinstance(entities[0], dict) else {}
        default = entity or next(iter(keys), "")
        key = find_key(first, "entities.0") if entities else default
        rows = _rows_of_list(entities, set(first), key, zone)
    else:
        example = '{"user": "123", "event_timestamp": "2026-11-23T10:00:00Z"}'
        raise invalid("entities", f"must be a list of rows such as {example}")
    entity = entity or _entity_of_column(key, keys, registry, features)
    return rows.replace_schema_metadata({"entity": entity}), key, entity


def check_text(rows: pa.Table) -> None:
    """Refuse text that is not UTF-8, as Parquet may have it, with Invalid."""
    try:
        rows.validate(full=True)
    except pa.ArrowException as error:
        raise invalid("entities", f"the rows cannot be read: {error}") from error


def check_entity_rows(rows: pa.Table) -> None:
    """Refuse text that is not UTF-8 and times out of range, as Parquet may have them.

    Raises:
        Invalid: For such rows.
    """
    check_text(rows)
    for column in ("at", "known_by"):
        if column in rows.column_names and rows.num_rows:
            ends = pc.min_max(rows[column].cast(pa.int64())).as_py()
            if ends["min"] < to_micros(EARLIEST) or ends["max"] > to_micros(LATEST):
                name = "event_timestamp" if column == "at" else column
                message = f"times must be between the years {EARLIEST.year} and {LATEST.year}"
                raise invalid(name, message)


def _check_entity(entity: Any, registry: Registry) -> None:
    if entity is not None and (not isinstance(entity, str) or entity not in registry.entities):
        known = ", ".join(registry.entities) or "-"
        raise invalid("entity", f"unknown entity type {entity!r:.60}; known types: {known}")


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


def parse_zone(name: Any) -> ZoneInfo | None:
    """The time zone of a request, by its name; None where it names none.

    Raises:
        Invalid: There is no such zone.
    """
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise invalid("time_zone", f"{name!r:.60} is no zone such as Europe/Lisbon") from None


def _parse_field(body: Mapping[str, Any], name: str, zone: ZoneInfo | None) -> datetime | None:
    if body.get(name) is None:
        return None
    try:
        return parse_time(body[name], zone)
    except ValueError as error:
        raise invalid(name, str(error)) from error


def _rows_of_list(
    entities: list[Any], names: set[str], key: str, zone: ZoneInfo | None
) -> pa.Table:
    cutoff = "known_by" in names
    ids, times, cutoffs, errors = [], [], [], []
    for n, row in enumerate(entities):
        try:
            if isinstance(row, RowError):
                raise ValueError(row.error)
            if not isinstance(row, dict) or set(row) != names:
                fields = ", ".join(sorted(names)[:10])
                raise ValueError(f"all rows must have the same fields: {fields}")
            ids.append(entity_id(row[key]))
            times.append(parse_time(row["event_timestamp"], zone))
            cutoffs.append(parse_time(row["known_by"], zone) if cutoff else None)
        except ValueError as error:
            errors.append(error_entry(f"entities.{n}", str(error)))
            if len(errors) == MAX_ERRORS:
                break
    if errors:
        raise Invalid(f"{errors[0]['location']}: {errors[0]['message']}", errors=errors)
    table = pa.table({"entity": _column(ids, pa.string()), "at": _column(times, TIME)})
    return table.append_column("known_by", _column(cutoffs, TIME)) if cutoff else table


def own_columns(entities: Any, key: str) -> pa.Table:
    """The columns of entity rows that are neither the id nor a time."""
    if isinstance(entities, pa.Table):
        return entities.select([n for n in entities.column_names if n not in {key, *NOT_IDS}])
    columns = {}
    for name in (n for n in (entities[0] if entities else ()) if n not in {key, *NOT_IDS}):
        values = [row[name] for row in entities]
        try:
            if any(isinstance(value, list | dict) for value in values):
                raise TypeError
            columns[name] = pa.array(values)
        except (pa.ArrowException, TypeError, OverflowError):
            message = "its values must all be text, all numbers or all true and false, or null"
            raise invalid(f"entities.0.{name}", message) from None
    return pa.table(columns)


def _column(values: list[Any], dtype: pa.DataType) -> pa.ChunkedArray:
    """A column, made in parts, between which other threads may run."""
    starts = range(0, len(values), AT_ONCE)
    return pa.chunked_array([pa.array(values[s : s + AT_ONCE], dtype) for s in starts], dtype)


def _rows_of_table(table: pa.Table, key: str, zone: ZoneInfo | None) -> pa.Table:
    columns = {"entity": _ids(table[key], key)}
    for name, column in (("at", "event_timestamp"), ("known_by", "known_by")):
        if column in table.column_names:
            columns[name] = _times(table[column], column, zone)
    for name, column in columns.items():
        if column.null_count:
            raise invalid(name, f"{column.null_count} of its values are null")
    return pa.table(columns)


def _ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Ids as text, checked as those in JSON are."""
    values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    is_text = any(is_kind(values.type) for is_kind in texts)
    if not is_text and not pa.types.is_integer(values.type) and values.null_count < len(values):
        raise invalid(name, f"ids must be text or integers, not {column.type}")
    ids = values.cast(pa.string())
    lengths = pc.utf8_length(ids)
    wrong = pc.or_(pc.less(lengths, 1), pc.greater(lengths, 512))
    wrong = pc.or_(wrong, pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]"))
    if pc.any(wrong).as_py():
        raise invalid(name, "an id has 1 to 512 characters, none of them a control character")
    return ids


def check_tenant(entities: Any, tenant: str) -> None:
    """Refuse entity rows of another tenant.

    Raises:
        Invalid: A row's `tenant_id` is not the tenant's.
    """
    found: Collection[Any] = ()
    if isinstance(entities, pa.Table) and "tenant_id" in entities.column_names:
        found = entities["tenant_id"].unique().to_pylist()
    elif isinstance(entities, list):
        found = [row.get("tenant_id") for row in entities if isinstance(row, dict)]
    if any(other not in (None, tenant) for other in found):
        raise invalid("tenant_id", "must be the tenant of the credential")


def _times(times: pa.ChunkedArray, name: str, zone: ZoneInfo | None) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(times.type) or (times.type.tz is None and zone is None):
        message = f"must be a timestamp with a zone, or say `time_zone`, not {times.type}"
        raise invalid(name, message)
    if times.type.tz is None:
        assert zone is not None
        try:
            times = pc.assume_timezone(times, zone.key)
        except pa.ArrowException as error:
            message = f"a time when clocks change in {zone.key}: give times with a zone ({error})"
            raise invalid(name, message) from error
    return times.cast(TIME, safe=False)


def _entity_column(
    names: Collection[str],
    keys: Mapping[str, str],
    entity: str | None,
    location: str,
    registry: Registry,
    features: list[str],
) -> str:
    """Which column has the entity's id; of several, the one that has the features."""
    if "event_timestamp" not in names:
        raise invalid(location, "each row needs `event_timestamp`")
    if len(names) > MAX_COLUMNS:
        raise invalid(location, f"a row has at most {MAX_COLUMNS} columns, not {len(names)}")
    if len(set(names)) < len(names):
        raise invalid(location, "two columns have the same name")
    rest = sorted(set(names) - NOT_IDS)
    types = {n: [e for e, k in keys.items() if n in (e, k) and entity in (None, e)] for n in rest}
    found = [n for n in rest if types[n]]
    if len(found) > 1:
        found = [n for n in found if any(_has_features(registry, e, features) for e in types[n])]
    if len(found) != 1:
        known = ", ".join(sorted({*keys, *keys.values()}))
        given = ", ".join(rest) or "none"
        raise invalid(
            location, f"each row needs one entity id, in a column named {known}; found {given}"
        )
    return found[0]


def _entity_of_column(
    column: str, keys: Mapping[str, str], registry: Registry, features: list[str]
) -> str:
    """The entity type of a column of ids.

    It is the type of that name, else the one with that join key; of several, the one
    that has the features.
    """
    if column in keys:
        return column
    sharing = [e for e, k in keys.items() if k == column]
    found = sharing
    if len(found) > 1:
        found = [e for e in found if _has_features(registry, e, features)]
    if len(found) != 1:
        known = ", ".join(sharing) or "none"
        raise invalid("entity", f"required: {column!r} is the join key of {known}")
    return found[0]


def _has_features(registry: Registry, entity: str, features: list[str]) -> bool:
    try:
        return bool(registry.resolve(entity, features))
    except LookupError:
        return False
