"""Erasing all that the feature store has of one entity, such as a user."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from . import keys
from .aggregation import TIME
from .datasets import ENTITY_TYPE, JOINED, ROWS
from .offline import table_name
from .registry import Registry
from .rows import PushedRow, append_offline
from .values import from_micros
from .views import View

ERASED_SECONDS = 30 * 86_400
"""Seconds for which values that were created before an erasure are refused."""

KEYS_AT_ONCE = 1_000


async def erase_entity(
    stores: Any, registry: Registry, entity: str, entity_id: str
) -> dict[str, int]:
    """Erase an entity's values, windows, offline rows and rows of data sets.

    Values and rows that were created before are refused afterwards, for as long as
    `ERASED_SECONDS`. The events themselves are retracted by the platform.

    Args:
        stores: The tenant's stores.
        registry: The tenant's definitions.
        entity: The entity type.
        entity_id: The id.

    Returns:
        How much was erased, by kind.
    """
    online, counts = stores.online, Counter[str]()
    await online.incr(keys.RETRACTIONS)
    await _mark_erased(online, entity, entity_id)
    counts["online keys"] = await _delete_keys(online, entity, entity_id)
    for view in registry.views:
        if view.kind == "stream" and view.entity == entity:
            counts["waiting events"] += await _forget_waiting(online, view, entity_id)
    views = {table_name(view): view for view in registry.views}
    for table in await stores.lake.tables():
        columns = _own_columns(table, views, registry, entity)
        if columns is not None:
            change = _without(columns, entity, entity_id)
            counts["offline rows"] += await stores.lake.rewrite(table, change)
    return dict(counts)


async def append_pushed(stores: Any, view: View, rows: Sequence[PushedRow], now: int) -> None:
    """Append pushed rows, but none created before its entity was erased.

    Args:
        stores: The tenant's stores.
        view: The view.
        rows: The rows.
        now: Created time, in µs since 1970, of rows that have none.
    """
    erased = await _read_erased(stores.online)
    kept = [
        row
        for row in rows
        if (now if row.created is None else row.created) > erased.get((view.entity, row.entity), -1)
    ]
    if not kept:
        return
    await append_offline(stores.lake, view, kept, now)
    for (entity, entity_id), at in (await _read_erased(stores.online)).items():
        if entity == view.entity and erased.get((entity, entity_id)) != at:  # just now
            change = _without({"entity"}, entity, entity_id, at)
            await stores.lake.rewrite(table_name(view), change)


async def _mark_erased(online: Any, entity: str, entity_id: str) -> None:
    now = time.time_ns() // 1000
    oldest = now - ERASED_SECONDS * 1_000_000
    for (other, other_id), at in (await _read_erased(online)).items():
        if at < oldest:
            await online.hdel(keys.ERASED, json.dumps([other, other_id]))
    await online.hset(keys.ERASED, json.dumps([entity, entity_id]), now)
    await online.set(keys.erased(entity, entity_id), now, ex=ERASED_SECONDS)


async def _read_erased(online: Any) -> dict[tuple[str, str], int]:
    """Entity type and id → when it was erased, in µs since 1970."""
    found = await online.hgetall(keys.ERASED)
    return {(e, id): int(at) for raw, at in found.items() for e, id in [json.loads(raw)]}


async def _delete_keys(online: Any, entity: str, entity_id: str) -> int:
    """Delete an entity's values and windows, also those of removed views."""
    kept = {(".erased",), (".retracted",)}
    deleted: int = await online.unlink(keys.values(entity, entity_id))
    pipe = online.pipeline()
    async for found in online.scan(("{}", *keys.values(entity, entity_id))):
        tag, _, rest = found.partition("}")
        parts = tuple(unquote(part) for part in rest.split(":") if part)
        own = tuple(unquote(part) for part in tag.removeprefix("{").split(":"))
        if own == keys.values(entity, entity_id) and parts not in kept:
            pipe.unlink(("{}", *own, "{}", *parts))
        if len(pipe) >= KEYS_AT_ONCE:
            deleted += sum(await pipe.execute())
    deleted += sum(await pipe.execute())
    return deleted


async def _forget_waiting(online: Any, view: View, entity_id: str) -> int:
    """Forget events that came too late or are ahead of the clock."""
    late = [
        member
        async for member, raw in online.hscan_iter(keys.late_events(view.name))
        if orjson.loads(raw)[0] == entity_id
    ]
    ahead = [
        raw
        async for raw, _ in online.zscan_iter(keys.future_events(view.name))
        if orjson.loads(raw)[1] == entity_id
    ]
    removed = int(await online.hdel(keys.late_events(view.name), *late)) if late else 0
    return removed + (int(await online.zrem(keys.future_events(view.name), *ahead)) if ahead else 0)


def _own_columns(
    table: str, views: dict[str, View], registry: Registry, entity: str
) -> set[str] | None:
    """The columns of a table that may have an entity's id; None where it has none.

    Of a table whose view is registered no more, the entity type is unknown: rows of any
    entity with the id go.
    """
    if not table.startswith("features_"):
        return None
    if table in views:
        return {"entity"} if views[table].entity == entity else None
    if table.startswith(JOINED):
        return {registry.join_key(entity)} if entity in registry.entities else None
    return {"entity", ENTITY_TYPE} if table.startswith(ROWS) else {"entity"}


def _without(columns: set[str], entity: str, entity_id: str, until: int | None = None) -> Any:
    """Removes an entity's rows, `until`: only those created by then (µs since 1970)."""

    def change(batch: pa.RecordBatch) -> pa.RecordBatch | None:
        names = [n for n in columns - {ENTITY_TYPE} if n in batch.schema.names]
        if not names or not batch.num_rows:
            return None
        mask = pc.fill_null(pc.equal(pc.cast(batch[names[0]], pa.string()), entity_id), False)
        if ENTITY_TYPE in columns and ENTITY_TYPE in batch.schema.names:
            types = pa.array([entity, ""], pa.string())
            mask = pc.and_(mask, pc.is_in(batch[ENTITY_TYPE], types))
        if until is not None:
            limit = pa.scalar(from_micros(until), TIME)
            mask = pc.and_(mask, pc.less_equal(batch["created"], limit))
        return batch.filter(pc.invert(mask)) if pc.any(mask).as_py() else None

    return change
