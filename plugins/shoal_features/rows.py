"""Rows as they are pushed to a view and returned, over HTTP."""

import base64
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pyarrow as pa

from shoal import Batch, read_object, validate_rows

from .aggregation import TIME, arrow_type, offline_schema
from .errors import invalid
from .offline import append_rows
from .online import OnlineRow
from .values import format_time, from_micros, pack, pack_times, parse_time, to_json, to_micros
from .views import View
from .windows import MAX_AHEAD

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""The times of entity rows are between these."""

_ID = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{1,512}")


@dataclass(frozen=True)
class PushedRow:
    """One row of a view as a caller pushes it.

    Attributes:
        entity: The entity's id.
        event: Event time in µs since 1970.
        created: Created time in µs since 1970; None for the time of writing.
        values: Feature name → value, as JSON has it.
    """

    entity: str
    event: int
    created: int | None
    values: Mapping[str, Any]

    def to_online(self, view: View, now: int) -> OnlineRow:
        """The row as it is stored online. `now` is in µs since 1970."""
        created = now if self.created is None else self.created
        features = {f.name: (view.identity(f), f.dtype) for f in view.features}
        values = {n: pack(*features[n], v, self.event, created) for n, v in self.values.items()}
        return OnlineRow(self.entity, values)


def read_pushed(
    body: bytes, view: View, destinations: Collection[str], limit: int, tenant: str
) -> tuple[str, Batch[PushedRow]]:
    """Where the rows of a body go, and the rows (see `parse_rows`).

    Args:
        body: `{"rows": [{…}, …], "to": "online"}` in JSON.
        view: The view.
        destinations: What `to` may be.
        limit: The largest number of rows.
        tenant: The caller's tenant.
    """
    fields, rows = read_object(body, "rows", limit=limit)
    to = fields.pop("to", "online")
    if to not in destinations:
        raise invalid("to", f"must be one of {', '.join(destinations)}")
    if rows is None:
        raise invalid("rows", "is missing")
    if fields:
        raise invalid(min(fields), "unknown field; the body has `rows` and `to`")
    return to, parse_rows(view, rows, complete=to != "online", tenant=tenant)


def parse_rows(
    view: View, rows: Sequence[Any], *, complete: bool = False, tenant: str = ""
) -> Batch[PushedRow]:
    """Parse rows of a view.

    Args:
        view: The view.
        rows: Objects with the entity's id by its type or join key, `event_timestamp`,
            perhaps `created`, and values.
        complete: Whether each row must give every feature. An offline row is all that
            was known at its time, so a feature left out would be null from then on.
        tenant: What a row's `tenant_id` must be; empty where any is accepted.

    Returns:
        The valid rows, and the errors of the others.
    """
    types = {f.name: f.dtype for f in view.features}

    def parse(row: Any) -> PushedRow:
        try:
            if not isinstance(row, dict):
                raise ValueError("a row is an object")
            if tenant and row.get("tenant_id") not in (None, tenant):
                raise ValueError("tenant_id: must be the tenant of the credential")
            return _parse_row(view, types, row, complete)
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None

    return validate_rows(rows, parse)


def _parse_row(view: View, types: Mapping[str, str], row: Any, complete: bool) -> PushedRow:
    values = dict(row)
    keys = [k for k in (view.join_key, view.entity) if k in values]
    if not keys:
        raise ValueError(f"it has no {view.join_key}")
    entity = entity_id(values.pop(keys[0]))
    values.pop("tenant_id", None)
    event = to_micros(parse_time(values.pop("event_timestamp", None)))
    created = values.pop("created", None)
    created = to_micros(parse_time(created)) if created is not None else None
    pack_times(event, event if created is None else created)
    _check_not_ahead(event, "event_timestamp")
    _check_not_ahead(created or 0, "created")
    missing = [name for name in types if name not in values]
    if complete and missing:
        raise ValueError(
            f"it has no {', '.join(missing)}: an offline row must give every feature,"
            " null where there is no value"
        )
    if not values:
        raise ValueError(f"it has no feature of {view.name}")
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"{view.name} has no feature {name!r}")
        try:
            to_json(types[name], value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return PushedRow(entity, event, created, values)


def _check_not_ahead(micros: int, name: str) -> None:
    if micros > time.time_ns() // 1000 + MAX_AHEAD * 1_000_000:
        raise ValueError(
            f"{name}: {format_time(from_micros(micros))} is more than {MAX_AHEAD // 60} minutes"
            " ahead of the clock; its values would hide all until then"
        )


def entity_id(value: Any) -> str:
    """An entity's id from JSON, as it is stored.

    Raises:
        ValueError: When it is not a valid id.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(
            "an id must be an integer or a text of 1 to 512 characters without control"
            f" characters, not {value!r:.60}"
        )
    return value


async def append_offline(lake: Any, view: View, rows: Sequence[PushedRow], now: int) -> int:
    """Append rows to the view's offline table.

    Args:
        lake: The tenant's lake.
        view: The view.
        rows: The rows.
        now: Created time, in µs since 1970, of rows that have none.

    Returns:
        How many rows.
    """
    created = [from_micros(now if r.created is None else r.created) for r in rows]
    columns: dict[str, Any] = {
        "entity": pa.array([r.entity for r in rows], pa.string()),
        "event_timestamp": pa.array([from_micros(r.event) for r in rows], TIME),
        "created": pa.array(created, TIME),
    }
    for f in view.features:
        values = [_to_arrow_value(f.dtype, r.values.get(f.name)) for r in rows]
        columns[f.name] = pa.array(values, arrow_type(f.dtype))
    return await append_rows(lake, view, pa.table(columns, schema=offline_schema(view)))


def rename_columns(table: pa.Table, key: str) -> pa.Table:
    """Give the columns `entity` and `at` the names that callers use."""
    names = {"entity": key, "at": "event_timestamp"}
    return table.rename_columns([names.get(n, n) for n in table.column_names])


def encode_json_rows(table: pa.Table) -> bytes:
    """`{"rows": [{…}, …]}`; NaN and infinities become null, bytes base64.

    What JSON has no type for, such as a decimal, becomes text.
    """
    return orjson.dumps({"rows": table.to_pylist()}, default=_to_plain, option=orjson.OPT_UTC_Z)


def _to_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, date) else str(value)


def _to_arrow_value(dtype: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if dtype.endswith("[]"):
        return [_to_arrow_value(dtype[:-2], v) for v in value]
    plain = orjson.loads(to_json(dtype, value))
    if dtype == "unix_timestamp":
        return parse_time(plain)
    if dtype == "bytes":
        return base64.b64decode(plain)
    return plain
