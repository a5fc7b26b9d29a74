"""Watching the features: do online and offline agree, how old are they, and have their distributions moved."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pyarrow as pa

from .drift import psi
from .freshness import MONITORED
from .history import everyone, question
from .online import Reading, read
from .registry import Feature, Registry, View
from .values import moment

TIME = pa.timestamp("us", "UTC")
WEEK = timedelta(days=7)
CLOSE = 1e-9


async def mismatches(
    stores: Any, registry: Registry, *, sample: int = 200, seed: int = 0, settle: float = 2.0
) -> dict[str, Any]:
    """Compare what is served with what the log and the offline tables say, for a sample of entities of every type.

    A difference counts once it is still there after `settle` seconds: an event may be on its way. The answer has
    `checked` (values compared) and `mismatches` (entity, feature, online, offline).
    """
    checked, wrong = 0, []
    for entity in registry.entities:
        features = [(v, f) for v in registry.views if v.entity == entity for f in v.features]
        ids = await _sample(stores, features, sample, seed)
        n, different = await _compare(stores, features, ids)
        if different:
            await asyncio.sleep(settle)
            again = sorted({d["entity"] for d in different})
            different = (await _compare(stores, features, again))[1]
        checked += n
        wrong += [{"type": entity, **d} for d in different]
    return {"checked": checked, "mismatches": wrong}


async def _sample(stores: Any, features: Sequence[tuple[View, Feature]], size: int, seed: int) -> list[str]:
    rows = await everyone(stores, features, moment(time.time_ns() // 1000))
    entities = rows["entity"].to_pylist()
    return sorted(random.Random(seed).sample(entities, min(size, len(entities))))


async def _compare(
    stores: Any, features: Sequence[tuple[View, Feature]], ids: Sequence[str]
) -> tuple[int, list[dict[str, Any]]]:
    if not ids:
        return 0, []
    now = time.time_ns() // 1000
    reading = Reading(features[0][0].entity, features)
    served = await read(stores.online, reading, ids, now)
    rows = pa.table({"entity": pa.array(ids, pa.string()), "at": pa.array([moment(now)] * len(ids), TIME)})
    known = await asyncio.to_thread((await question(stores, features, rows)).answer)
    different = []
    for n, (entity, answers) in enumerate(zip(ids, served, strict=True)):
        for (view, feature), answer in zip(features, answers, strict=True):
            if view.kind == "plain":
                continue  # what was pushed online alone is no mismatch
            online, there = orjson.loads(answer.json), known[feature.name][n].as_py()
            if not _same(feature, online, there):
                different.append({"entity": entity, "view": view.name, "feature": feature.name, "online": online, "offline": str(there)})
    return len(ids) * sum(v.kind != "plain" for v, _ in features), different


def _same(feature: Feature, online: Any, there: Any) -> bool:
    if hasattr(there, "isoformat"):
        there = there.isoformat()
    if isinstance(online, int | float) and isinstance(there, int | float) and feature.dtype in ("float32", "float64"):
        return abs(online - there) <= CLOSE * max(abs(online), abs(there), 1e-300)
    return bool(online == there)


async def monitor(stores: Any, registry: Registry, *, sample: int = 5_000) -> list[dict[str, Any]]:
    """Per feature, the share of nulls now and the drift against a week before (PSI), over a sample of the entities. Kept for
    `GET /features/freshness` and returned as points `{metric, value, labels}`."""
    now = moment(time.time_ns() // 1000)
    points: list[dict[str, Any]] = []
    for entity in registry.entities:
        features = [(v, f) for v in registry.views if v.entity == entity for f in v.features]
        ids = await _sample(stores, features, sample, 0)
        if not ids:
            continue
        found = {}
        for when in (now, now - WEEK):
            rows = pa.table({"entity": pa.array(ids, pa.string()), "at": pa.array([when] * len(ids), TIME)})
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

