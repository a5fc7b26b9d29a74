"""Whether online and offline agree, and whether distributions have moved."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa

from . import keys
from .aggregation import TIME, aggregate, lookback_seconds, open_engine
from .archive import Archive, accepted_until, open_archive
from .drift import psi
from .extraction import event_rows_sql
from .failures import Failures
from .historical_query import all_entities, plan_query
from .offline import CLOSE
from .online import ReadPlan, ServedValue, read_values
from .registry import Registry
from .values import format_time, from_micros
from .views import Feature, View

WEEK = timedelta(days=7)


async def find_mismatches(
    stores: Any,
    registry: Registry,
    failures: Failures,
    *,
    sample: int = 200,
    seed: int = 0,
    settle: float = 2.0,
) -> dict[str, Any]:
    """Compare served values with the offline tables and the log, for sampled entities.

    What a batch view serves is also computed again from the log, as of the time it was
    computed for. A difference counts if it is still there after `settle` seconds, since
    an event may be on its way. Plain views are not compared: they may have been pushed
    online only.

    Args:
        stores: The tenant's stores.
        registry: The tenant's definitions.
        failures: Where views that cannot be compared go.
        sample: Entities per entity type.
        seed: Of the random sample.
        settle: Seconds.

    Returns:
        `checked` (values compared) and `mismatches` (entity, view, feature, `online`,
        and `offline` or `log`).
    """
    checked, mismatches = 0, []
    for entity in registry.entities:
        views = [v for v in registry.views if v.entity == entity and v.kind != "plain"]
        ids = await _sample_entities(stores, views, failures, sample, seed)
        found: list[tuple[View, dict[str, Any]]] = []
        for view in (v for v in views if v.name not in failures):
            with failures.set_aside(view.name):
                found += [(view, d) for d in await _compare(stores, view, ids)]
                checked += len(ids) * len(view.features)
        if found:
            await asyncio.sleep(settle)
        for view in dict.fromkeys(v for v, _ in found):
            again = sorted({d["entity"] for v, d in found if v is view})
            with failures.set_aside(view.name):
                different = await _compare(stores, view, again)
                mismatches += [{"type": entity, **d} for d in different]
    return {"checked": checked, "mismatches": mismatches}


async def profile_features(
    stores: Any, registry: Registry, failures: Failures, *, sample: int = 5_000
) -> list[dict[str, Any]]:
    """Measure each feature's share of nulls, and its drift against a week before (PSI).

    Over a sample of the entities. The result is stored for `GET /features/freshness`.
    Views that cannot be measured go to `failures`.

    Returns:
        Points `{metric, value, labels}`.
    """
    now = from_micros(time.time_ns() // 1000)
    points: list[dict[str, Any]] = []
    for entity in registry.entities:
        views = [v for v in registry.views if v.entity == entity]
        ids = await _sample_entities(stores, views, failures, sample, 0)
        for view in (v for v in views if ids and v.name not in failures):
            with failures.set_aside(view.name):
                points += await _profile_view(stores, view, ids, now)
    return points


async def _profile_view(
    stores: Any, view: View, ids: Sequence[str], now: datetime
) -> list[dict[str, Any]]:
    tables = []
    for at in (now - WEEK, now):
        query = await plan_query(stores, _features(view), _entity_rows(ids, at))
        tables.append(await asyncio.to_thread(query.run))
    profile = {f.name: _profile(*(t[f.name].to_pylist() for t in tables)) for f in view.features}
    await stores.online.hset(keys.PROFILES, view.name, orjson.dumps(profile))
    return [
        {
            "metric": f"features.{metric}",
            "value": value,
            "labels": {"view": view.name, "feature": name},
        }
        for name, measured in profile.items()
        for metric, value in measured.items()
        if value is not None
    ]


def _profile(before: list[Any], after: list[Any]) -> dict[str, float | None]:
    was_known = before.count(None) < len(before)
    return {
        "null_share": after.count(None) / len(after),
        "psi": psi(before, after) if was_known else None,
    }


def _features(view: View) -> list[tuple[View, Feature]]:
    return [(view, feature) for feature in view.features]


async def _sample_entities(
    stores: Any, views: Sequence[View], failures: Failures, size: int, seed: int
) -> list[str]:
    """Some of the entities that any of the views has."""
    now, entities = from_micros(time.time_ns() // 1000), set[str]()
    for view in views:
        with failures.set_aside(view.name):
            entities |= set(
                (await all_entities(stores, _features(view), now))["entity"].to_pylist()
            )
    return sorted(random.Random(seed).sample(sorted(entities), min(size, len(entities))))


def _entity_rows(ids: Sequence[str], at: Any) -> pa.Table:
    return pa.table({"entity": pa.array(ids, pa.string()), "at": pa.array([at] * len(ids), TIME)})


async def _compare(stores: Any, view: View, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The differences of some entities in one view."""
    if not ids:
        return []
    now = time.time_ns() // 1000
    plan = ReadPlan(view.entity, _features(view))
    served = dict(zip(ids, await read_values(stores.online, plan, ids, now), strict=True))
    different = await _compare_with_offline(stores, view, served, now)
    if view.kind == "stream":
        return await _drop_entities_ahead(stores, view, different, now)
    found = {(d["entity"], d["feature"]) for d in different}
    again = await _compare_with_log(stores, view, served, now)
    return different + [d for d in again if (d["entity"], d["feature"]) not in found]


async def _compare_with_offline(
    stores: Any, view: View, served: Mapping[str, Sequence[ServedValue]], now: int
) -> list[dict[str, Any]]:
    query = await plan_query(stores, _features(view), _entity_rows(list(served), from_micros(now)))
    table = await asyncio.to_thread(query.run)
    different = []
    for n, (entity, values) in enumerate(served.items()):
        for feature, value in zip(view.features, values, strict=True):
            offline = table[feature.name][n].as_py()
            different += _difference(entity, view, feature, value, "offline", offline)
    return different


async def _drop_entities_ahead(
    stores: Any, view: View, different: list[dict[str, Any]], now: int
) -> list[dict[str, Any]]:
    """Drop the differences of entities with events ahead of our clock.

    These are served up to `windows.MAX_AHEAD` seconds early.
    """
    if not different:
        return []
    archive = await open_archive(stores, from_micros(now))
    with open_engine() as con:
        rows = event_rows_sql(view, archive.relation(con))
        query = f"SELECT DISTINCT entity FROM ({rows}) WHERE ts > {now}"
        ahead = {row[0] for row in con.execute(query).fetchall()}
    return [d for d in different if d["entity"] not in ahead]


@dataclass(frozen=True)
class _Recomputation:
    """A batch view computed again from the log, as of one time."""

    view: View
    archive: Archive
    as_of: int
    expired: bool

    def compare(
        self,
        served: Mapping[str, Sequence[ServedValue]],
        entities: Sequence[str],
        known_by: int | None,
    ) -> list[dict[str, Any]]:
        """The differences from what the log gives, or gave at `known_by`."""
        with open_engine() as con:
            relation = self.archive.relation(con)
            if known_by is not None:
                relation = accepted_until(relation, known_by)
            table = aggregate(con, self.view, relation, self.as_of, self.as_of, entities=entities)
        rows = {} if self.expired else {r["entity"]: r for r in table.to_pylist()}
        different = []
        for entity in entities:
            row = rows.get(entity, {})
            for feature, value in zip(self.view.features, served[entity], strict=True):
                logged = row.get(feature.name)
                different += _difference(entity, self.view, feature, value, "log", logged)
        return different


async def _compare_with_log(
    stores: Any, view: View, served: Mapping[str, Sequence[ServedValue]], now: int
) -> list[dict[str, Any]]:
    """Compute a batch view's served values again from the log.

    Only what differs both from the log as it is and from the log as it was when the
    values were computed is a difference: the next run takes later events into account.

    Args:
        stores: The tenant's stores.
        view: A batch view.
        served: Entity → values in the order of the view's features.
        now: µs since 1970.
    """
    status = await stores.online.hget(keys.STATUS, view.name)
    times = _times_computed(served, orjson.loads(status) if status else None)
    different: list[dict[str, Any]] = []
    for as_of, known_by in times.items():
        since = from_micros(as_of) - timedelta(seconds=lookback_seconds(view))
        archive = await open_archive(stores, since, from_micros(as_of))
        expired = view.ttl is not None and as_of + view.ttl * 1_000_000 < now
        again = _Recomputation(view, archive, as_of, expired)
        differing = await asyncio.to_thread(again.compare, served, list(known_by), None)
        entities = {d["entity"] for d in differing}
        for computed in {known_by[e] for e in entities}:
            some = sorted(e for e in entities if known_by[e] == computed)
            different += await asyncio.to_thread(again.compare, served, some, computed)
    return different


def _times_computed(
    served: Mapping[str, Sequence[ServedValue]], status: dict[str, Any] | None
) -> dict[int, dict[str, int]]:
    """As of which time each entity was computed, and when: as of → entity → known by.

    Where nothing is served, the times of the view's last computation.
    """
    times: dict[int, dict[str, int]] = {}
    for entity, values in served.items():
        value = next((v for v in values if not v.reason), None)
        if value is not None and value.event is not None and value.created is not None:
            times.setdefault(value.event, {})[entity] = value.created
        elif status:
            times.setdefault(status["event"], {})[entity] = status["handled"]
    return times


def _difference(
    entity: str, view: View, feature: Feature, value: ServedValue, side: str, other: Any
) -> list[dict[str, Any]]:
    """The difference between a served value and another, or nothing."""
    online = orjson.loads(value.json)
    if _is_same(feature, online, other):
        return []
    return [
        {
            "entity": entity,
            "view": view.name,
            "feature": feature.name,
            "online": online,
            side: str(other),
        }
    ]


def _is_same(feature: Feature, online: Any, other: Any) -> bool:
    if hasattr(other, "isoformat"):
        other = format_time(other)
    numbers = isinstance(online, int | float) and isinstance(other, int | float)
    if numbers and feature.dtype in ("float32", "float64"):
        return bool(abs(online - other) <= CLOSE * max(abs(online), abs(other), 1e-300))
    return bool(online == other)
