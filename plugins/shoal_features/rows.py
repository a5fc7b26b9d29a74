"""Rows as they come and go over HTTP: entity rows of a question, values of a view, and
the answers.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pyarrow as pa

from . import offline
from .aggregation import TIME, arrow_type, schema
from .online import Row
from .registry import Registry, View
from .values import micros, moment, pack, stamp
from .values import to_json as _to_json

_PLAIN = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]+")


class Wrong(ValueError):
    """A body that is well-formed but wrong. `errors` says what and where."""

    def __init__(self, message: str, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__(message)
        self.errors = [dict(e) for e in errors]


@dataclass(frozen=True)
class Asked:
    """A point-in-time question: the rows, or `as_of` for all entities. `key`: how the
    caller names the entity's column.
    """

    entity: str
    key: str
    features: list[str]
    rows: pa.Table | None
    as_of: datetime | None
    known_by: datetime | None
    cutoff: bool


def asked(body: Any, registry: Registry) -> Asked:
    """Read the body of a point-in-time question. Raises Wrong with every fault of the
    first hundred.
    """
    if not isinstance(body, dict):
        raise _wrong("body", "it must be an object with `entities` and `features`")
    unknown = set(body) - {"entities", "features", "entity", "as_of", "known_by", "tenant"}
    if unknown:
        raise _wrong(f"{min(unknown)}", "not expected here")
    features = body.get("features")
    if (
        not isinstance(features, list)
        or not features
        or not all(isinstance(f, str) for f in features)
    ):
        raise _wrong("features", "say which features: a list of names")
    as_of, known_by = (
        _moment(body[n], f"{n}") if body.get(n) is not None else None for n in ("as_of", "known_by")
    )
    entities = body.get("entities")
    keys, said = {v.entity: v.join_key for v in registry.views}, body.get("entity") or None
    if said is not None and (not isinstance(said, str) or said not in keys):
        raise _wrong(
            "entity",
            f"unknown entity type {said!r}; there is {', '.join(registry.entities) or 'none'}",
        )
    if as_of is not None:
        if entities is not None:
            raise _wrong("as_of", "either `entities` with their own times, or `as_of` for all")
        entity = said or (registry.entities[0] if len(registry.entities) == 1 else "")
        return Asked(entity, keys.get(entity, entity), features, None, as_of, known_by, False)
    if isinstance(entities, pa.Table):
        rows, key = _from_table(entities, keys, said)
    elif isinstance(entities, list):
        rows, key = _from_json(entities, keys, said)
    else:
        raise _wrong(
            "entities",
            'a list of rows such as {"user": "123", "event_timestamp": "2026-11-23T10:00:00Z"}',
        )
    entity = said or _entity(key, keys, registry, features)
    rows = rows.replace_schema_metadata(
        {"entity": entity}
    )  # kept with the rows of a data set, for the job that joins them
    return Asked(entity, key, features, rows, None, known_by, "known_by" in rows.column_names)


def _from_json(
    entities: list[Any], keys: Mapping[str, str], entity: str | None
) -> tuple[pa.Table, str]:
    if not entities:
        key = entity or next(iter(keys), "")
        return pa.table({"entity": pa.array([], pa.string()), "at": pa.array([], TIME)}), key
    names = set(entities[0]) if isinstance(entities[0], dict) else set()
    key = _key(names, keys, entity, "entities.0")
    cutoff = "known_by" in names
    ids, times, cutoffs, errors = [], [], [], []
    for n, row in enumerate(entities):
        try:
            if not isinstance(row, dict) or set(row) != names:
                raise ValueError(f"each row has the same fields: {', '.join(sorted(names))}")
            ids.append(entity_id(row[key]))
            times.append(parse_time(row["event_timestamp"]))
            cutoffs.append(parse_time(row["known_by"]) if cutoff else None)
        except ValueError as error:
            errors.append({"location": f"entities.{n}", "message": str(error)})
            if len(errors) == 100:
                break
    if errors:
        raise Wrong(f"{errors[0]['location']}: {errors[0]['message']}", errors)
    table = pa.table({"entity": pa.array(ids, pa.string()), "at": pa.array(times, TIME)})
    return (table.append_column("known_by", pa.array(cutoffs, TIME)) if cutoff else table), key


def _from_table(
    table: pa.Table, keys: Mapping[str, str], entity: str | None
) -> tuple[pa.Table, str]:
    key = _key(set(table.column_names), keys, entity, "body")
    columns = {"entity": table[key].cast(pa.string())}
    for name, column in (("at", "event_timestamp"), ("known_by", "known_by")):
        if column in table.column_names:
            kind = table[column].type
            if not pa.types.is_timestamp(kind) or kind.tz is None:
                raise _wrong(f"{column}", f"it must be a timestamp with a zone, not {kind}")
            columns[name] = table[column].cast(TIME, safe=False)
    for name, column in columns.items():
        if column.null_count:
            raise _wrong(f"{name}", f"{column.null_count} of its values are null")
    return pa.table(columns), key


def _key(names: set[str], keys: Mapping[str, str], entity: str | None, where: str) -> str:
    """Which column holds the entity's id."""
    if "event_timestamp" not in names:
        raise _wrong(where, "each row needs `event_timestamp`")
    rest = names - {"event_timestamp", "known_by", "tenant_id"}
    found = [
        n for n in sorted(rest) for e, k in keys.items() if n in (e, k) and entity in (None, e)
    ]
    if len(rest) != 1 or not found:
        known = ", ".join(sorted({*keys, *keys.values()}))
        raise _wrong(
            where,
            f"each row names one entity, by one of {known}; this has {', '.join(sorted(rest)) or 'none'}",
        )
    return found[0]


def _entity(key: str, keys: Mapping[str, str], registry: Registry, features: list[str]) -> str:
    """The entity type that a column of ids is of: of that name, else of that join key,
    which several may share; then the one with the features.
    """
    found = [key] if key in keys else [e for e, k in keys.items() if k == key]
    if len(found) > 1:
        found = [e for e in found if _has(registry, e, features)]
    if len(found) != 1:
        raise _wrong(
            "entity",
            f"say which entity type: {key!r} is the join key of {', '.join(e for e, k in keys.items() if k == key) or 'none'}",
        )
    return found[0]


def _has(registry: Registry, entity: str, features: list[str]) -> bool:
    try:
        return bool(registry.resolve(entity, features))
    except LookupError:
        return False


def entity_id(value: Any) -> str:
    """An id from JSON, as it is stored. ValueError when it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= 512 or not _PLAIN.fullmatch(value):
        raise ValueError(
            f"an id is an integer or a text of 1 to 512 characters, none a control character, not {value!r:.60}"
        )
    return value


def parse_time(text: Any) -> datetime:
    """An RFC 3339 time. ValueError when it is none or has no zone."""
    if not isinstance(text, str):
        raise ValueError(f"a time is a text like 2026-11-23T10:00:00Z, not {text!r:.60}")
    try:
        time = datetime.fromisoformat(text)
        micros(time)
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the time {text} is out of range") from None
    except ValueError as error:
        if "no zone" in str(error):
            raise
        raise ValueError(f"{text!r:.60} is not a time like 2026-11-23T10:00:00Z") from None


def _moment(text: Any, where: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise _wrong(where, str(error)) from error


def _wrong(location: str, message: str) -> Wrong:
    return Wrong(f"{location}: {message}", [{"location": location, "message": message}])


def named(answer: pa.Table, key: str) -> pa.Table:
    """The answer with the caller's own names for the entity and the time."""
    return answer.rename_columns(
        [{"entity": key, "at": "event_timestamp"}.get(n, n) for n in answer.column_names]
    )


def json_rows(table: pa.Table) -> bytes:
    """`{"rows": [{…}, …]}`; NaN and infinities become null, bytes base64."""
    return orjson.dumps({"rows": table.to_pylist()}, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


@dataclass(frozen=True)
class Value:
    """One row of a view on its way in. Times in µs; `created` None: now."""

    entity: str
    event: int
    created: int | None
    values: Mapping[str, Any]

    def packed(self, view: View, now: int) -> Row:
        created = now if self.created is None else self.created
        types = {f.name: f.dtype for f in view.features}
        return Row(
            self.entity, {n: pack(types[n], v, self.event, created) for n, v in self.values.items()}
        )


def parse(
    view: View, rows: Sequence[Any], *, whole: bool = False
) -> tuple[list[Value], list[dict[str, Any]]]:
    """The good rows, and the others as `{"index", "error"}`. With `whole`, a row must
    give every feature of the view: offline a row is what was known at its time, so that
    a feature left out would be null from then on.
    """
    good: list[Value] = []
    rejected: list[dict[str, Any]] = []
    types = {f.name: f.dtype for f in view.features}
    for index, row in enumerate(rows):
        try:
            rest = dict(row)
            keys = [k for k in (view.join_key, view.entity) if k in rest]
            if not keys:
                raise ValueError(f"it has no {view.join_key}")
            entity = entity_id(rest.pop(keys[0]))
            rest.pop("tenant_id", None)
            event = micros(parse_time(rest.pop("event_timestamp", None)))
            created = rest.pop("created", None)
            created = micros(parse_time(created)) if created is not None else None
            stamp(event, event if created is None else created)
            missing = [name for name in types if name not in rest]
            if whole and missing:
                raise ValueError(
                    f"it has no {', '.join(missing)}: a row that is kept offline gives every feature, null where there is no value"
                )
            for name, value in rest.items():
                if name not in types:
                    raise ValueError(f"{view.name} has no feature {name!r}")
                try:
                    _to_json(types[name], value)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
            good.append(Value(entity, event, created, rest))
        except (ValueError, TypeError, OverflowError) as error:
            rejected.append({"index": index, "error": str(error)})
    return good, rejected


async def keep(lake: Any, view: View, rows: Sequence[Value], now: int) -> int:
    """Append rows to the view's offline table."""
    columns: dict[str, Any] = {
        "entity": pa.array([r.entity for r in rows], pa.string()),
        "event_timestamp": pa.array([moment(r.event) for r in rows], TIME),
        "created": pa.array([moment(now if r.created is None else r.created) for r in rows], TIME),
    }
    for f in view.features:
        columns[f.name] = pa.array(
            [arrow_value(f.dtype, r.values.get(f.name)) for r in rows], arrow_type(f.dtype)
        )
    return await offline.append(lake, view, pa.table(columns, schema=schema(view)))


def arrow_value(dtype: str, value: Any) -> Any:
    """A value from JSON as Arrow takes it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if dtype.endswith("[]"):
        return [arrow_value(dtype[:-2], v) for v in value]
    plain = orjson.loads(_to_json(dtype, value))
    if dtype == "unix_timestamp":
        return datetime.fromisoformat(plain)
    if dtype == "bytes":
        return base64.b64decode(plain)
    return plain
