"""Watching the features: do online and offline agree, how old are they, and have their
distributions moved.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
import pyarrow as pa

from . import offline
from .aggregation import accepted_by, aggregate, engine, lookback
from .drift import psi
from .extraction import select
from .freshness import MONITORED
from .historical_query import everyone, question
from .ingest import STATUS
from .online import Answer, Reading, read
from .registry import Feature, Registry, View
from .values import moment

TIME = pa.timestamp("us", "UTC")
WEEK = timedelta(days=7)
CLOSE = 1e-9


async def mismatches(
    stores: Any, registry: Registry, *, sample: int = 200, seed: int = 0, settle: float = 2.0
) -> dict[str, Any]:
    """Compare what is served with what the log and the offline tables say, for a sample
    of entities of every type. What a batch view serves is computed again from the log
    as well, as of the moment that it is of.

    A difference counts once it is still there after `settle` seconds: an event may be
    on its way. The answer has `checked` (values compared) and `mismatches` (entity,
    view, feature, online, and `offline` or `log`).
    """
    checked, wrong = 0, []
    for entity in registry.entities:
        features = [
            (v, f)
            for v in registry.views
            if v.entity == entity and v.kind != "plain"
            for f in v.features
        ]
        ids = await _sample(stores, features, sample, seed) if features else []
        different = await _compare(stores, features, ids)
        if different:
            await asyncio.sleep(settle)
            again = sorted({d["entity"] for d in different})
            different = await _compare(stores, features, again)
        checked += len(ids) * len(features)
        wrong += [{"type": entity, **d} for d in different]
    return {"checked": checked, "mismatches": wrong}


async def _sample(
    stores: Any, features: Sequence[tuple[View, Feature]], size: int, seed: int
) -> list[str]:
    rows = await everyone(stores, features, moment(time.time_ns() // 1000))
    entities = rows["entity"].to_pylist()
    return sorted(random.Random(seed).sample(entities, min(size, len(entities))))


async def _compare(
    stores: Any, features: Sequence[tuple[View, Feature]], ids: Sequence[str]
) -> list[dict[str, Any]]:
    """The differences. What was only pushed online (a plain view) is not looked at."""
    if not ids:
        return []
    now = time.time_ns() // 1000
    reading = Reading(features[0][0].entity, features)
    served = dict(zip(ids, await read(stores.online, reading, ids, now), strict=True))
    rows = pa.table(
        {"entity": pa.array(ids, pa.string()), "at": pa.array([moment(now)] * len(ids), TIME)}
    )
    known = await asyncio.to_thread((await question(stores, features, rows)).answer)
    different = []
    for n, entity in enumerate(ids):
        for (view, feature), answer in zip(features, served[entity], strict=True):
            online, there = orjson.loads(answer.json), known[feature.name][n].as_py()
            if not _same(feature, online, there):
                different.append(_difference(entity, view, feature, online, offline=there))
    different = await _without_ahead(stores, features, different, now)
    found = {(d["entity"], d["feature"]) for d in different}
    for view in dict.fromkeys(v for v, _ in features if v.kind == "batch"):
        at = [i for i, (v, _) in enumerate(features) if v is view]
        answers = {entity: [served[entity][i] for i in at] for entity in ids}
        again = await recomputed(stores, view, answers, now)
        different += [d for d in again if (d["entity"], d["feature"]) not in found]
    return different


async def recomputed(
    stores: Any, view: View, served: Mapping[str, Sequence[Answer]], now: int
) -> list[dict[str, Any]]:
    """Compute a batch view's features from the log, as of the moments that the `served`
    ones (in the order of the view's) are of, or that the view was last computed for
    where nothing is served. The differences to both what the log says now and what it
    said when they were computed: an event that came late since is for the next run to
    take in.
    """
    status = await stores.online.hget(STATUS, view.name)
    last = orjson.loads(status) if status else None
    moments: dict[int, dict[str, int]] = {}  # as of → entity → known by
    for entity, answers in served.items():
        one = next((a for a in answers if not a.reason), None)
        if one is not None and one.event is not None and one.created is not None:
            moments.setdefault(one.event, {})[entity] = one.created
        elif last:
            moments.setdefault(last["event"], {})[entity] = last["handled"]
    different: list[dict[str, Any]] = []
    for as_of, entities in moments.items():
        archive = await offline.events(
            stores, moment(as_of) - timedelta(seconds=lookback(view)), moment(as_of)
        )
        dead = bool(view.ttl) and as_of + view.ttl * 1_000_000 < now  # type: ignore[operator]

        def differing(
            some: Sequence[str],
            known: int | None,
            as_of: int = as_of,
            archive: offline.Archive = archive,
            dead: bool = dead,
        ) -> list[dict[str, Any]]:
            with engine() as con:
                relation = archive.relation(con)
                relation = relation if known is None else accepted_by(relation, known)
                table = aggregate(con, view, relation, as_of, as_of, entities=some)
            rows = {} if dead else {r["entity"]: r for r in table.to_pylist()}
            return [
                _difference(e, view, f, orjson.loads(a.json), log=rows.get(e, {}).get(f.name))
                for e in some
                for f, a in zip(view.features, served[e], strict=True)
                if not _same(f, orjson.loads(a.json), rows.get(e, {}).get(f.name))
            ]

        wrong = {d["entity"] for d in await asyncio.to_thread(differing, list(entities), None)}
        for known in {entities[e] for e in wrong}:
            some = sorted(e for e in wrong if entities[e] == known)
            different += await asyncio.to_thread(differing, some, known)
    return different


async def _without_ahead(
    stores: Any, features: Sequence[tuple[View, Feature]], different: list[dict[str, Any]], now: int
) -> list[dict[str, Any]]:
    """Leave out the stream features of entities with events ahead of our clock: they
    are served a little early.
    """
    kept = different
    for view in dict.fromkeys(v for v, _ in features if v.kind == "stream"):
        entities = sorted({d["entity"] for d in kept if d["view"] == view.name})
        if entities:
            archive = await offline.events(stores, moment(now))
            with engine() as con:
                query = f"SELECT DISTINCT entity FROM ({select(view, archive.relation(con))}) WHERE ts > {now}"
                early = {row[0] for row in con.execute(query).fetchall()}
            kept = [d for d in kept if d["view"] != view.name or d["entity"] not in early]
    return kept


def _difference(
    entity: str, view: View, feature: Feature, online: Any, **there: Any
) -> dict[str, Any]:
    return {
        "entity": entity,
        "view": view.name,
        "feature": feature.name,
        "online": online,
        **{k: str(v) for k, v in there.items()},
    }


def _same(feature: Feature, online: Any, there: Any) -> bool:
    if hasattr(there, "isoformat"):
        there = there.isoformat()
    if (
        isinstance(online, int | float)
        and isinstance(there, int | float)
        and feature.dtype in ("float32", "float64")
    ):
        return abs(online - there) <= CLOSE * max(abs(online), abs(there), 1e-300)
    return bool(online == there)


async def monitor(stores: Any, registry: Registry, *, sample: int = 5_000) -> list[dict[str, Any]]:
    """Per feature, the share of nulls now and the drift against a week before (PSI),
    over a sample of the entities. Kept for `GET /features/freshness` and returned as
    points `{metric, value, labels}`.
    """
    now = moment(time.time_ns() // 1000)
    points: list[dict[str, Any]] = []
    for entity in registry.entities:
        features = [(v, f) for v in registry.views if v.entity == entity for f in v.features]
        ids = await _sample(stores, features, sample, 0)
        if not ids:
            continue
        found = {}
        for when in (now, now - WEEK):
            rows = pa.table(
                {"entity": pa.array(ids, pa.string()), "at": pa.array([when] * len(ids), TIME)}
            )
            found[when] = await asyncio.to_thread((await question(stores, features, rows)).answer)
        for view in dict.fromkeys(v for v, _ in features):
            entry = {}
            for feature in view.features:
                after, before = (found[w][feature.name].to_pylist() for w in (now, now - WEEK))
                nulls = after.count(None) / len(after)
                shift = None if before.count(None) == len(before) else psi(before, after)
                entry[feature.name] = {"null_share": nulls, "psi": shift}
                labels = {"view": view.name, "feature": feature.name}
                points.append({"metric": "features.null_share", "value": nulls, "labels": labels})
                if shift is not None:
                    points.append({"metric": "features.psi", "value": shift, "labels": labels})
            await stores.online.hset(MONITORED, view.name, orjson.dumps(entry))
    return points
