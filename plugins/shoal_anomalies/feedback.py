"""People's feedback on anomalies, as labelled series to learn from."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from shoal import TenantContext

from . import keys, recent_points
from .archive import Archive
from .points import RETENTION
from .stored_series import StoredSeries, load_all_series

POINTS_BEFORE, POINTS_AFTER = 5, 10  # of an anomaly: a verdict covers them too
Spans = list[tuple[float, float]]  # start and end, epoch seconds


def label_spans(
    times: NDArray[np.float64], verdicts: Sequence[tuple[float, bool]], missed: Spans
) -> tuple[Spans, Spans]:
    """Turn the feedback on one series into labels.

    Args:
        times: n epoch seconds.
        verdicts: The time of each anomaly, and whether people confirmed it.
        missed: Anomalies that people reported as not found.

    Returns:
        Spans that are anomalous, merged where they overlap, and spans that people
        denied, without those that overlap an anomalous one.
    """
    around: dict[bool, Spans] = {True: [], False: []}
    for time, confirmed in verdicts:
        # The id of an anomaly gives its time in whole seconds.
        index = int(np.searchsorted(times, time - 0.5))
        if index < len(times) and times[index] <= time + 0.5:
            first = max(index - POINTS_BEFORE, 0)
            last = min(index + POINTS_AFTER, len(times) - 1)
            around[confirmed].append((float(times[first]), float(times[last])))
    with_points = [
        (start, end)
        for start, end in missed
        if np.searchsorted(times, start) < np.searchsorted(times, end, side="right")
    ]
    windows = _merge(around[True] + with_points)
    denied = [
        (start, end)
        for start, end in around[False]
        if not any(start <= last and first <= end for first, last in windows)
    ]
    return windows, _merge(denied)


def _merge(spans: Spans) -> Spans:
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


async def read_labelled_series(
    ctx: TenantContext, archive: Archive, start: float = 0.0
) -> list[dict[str, Any]]:
    """Read every series of a tenant that has feedback.

    Args:
        ctx: The tenant.
        archive: The tenant's long-term store.
        start: Epoch seconds of the first point; at most 90 days ago.

    Returns:
        Name, times, values, windows and denied of each, for `study.to_labelled_series`.
    """
    pipe = ctx.stores.online.pipeline()
    pipe.hgetall(keys.FEEDBACK).hgetall(keys.MISSED).hgetall(keys.SERIES)
    feedback, reports, known = await pipe.execute()
    verdicts: dict[str, list[tuple[float, bool]]] = {}
    missed: dict[str, Spans] = {}
    for anomaly, text in feedback.items():
        series, _, time = anomaly.decode().rpartition("-")
        verdicts.setdefault(series, []).append((float(time), orjson.loads(text)["anomaly"]))
    for text in reports.values():
        report = orjson.loads(text)
        missed.setdefault(report["series"], []).append((report["from"], report["to"]))
    infos = load_all_series(known)
    wanted = sorted((verdicts.keys() | missed.keys()) & infos.keys())
    if not wanted:
        return []
    now = datetime.now(UTC)
    start, end = max(start, (now - RETENTION).timestamp()), now.timestamp()
    archived = await archive.read_all(start, end, wanted)
    labelled = []
    for series in wanted:
        packed = await ctx.stores.online.get(keys.recent_points(series))
        recent = recent_points.merge_records(recent_points.unpack(packed))
        old = archived.get(series, recent_points.NO_POINTS)
        points = recent_points.merge_points(old, recent).between(start, end)
        windows, denied = label_spans(
            points.times, verdicts.get(series, ()), missed.get(series, [])
        )
        if windows or denied:
            labelled.append(
                {
                    "name": _name(infos[series]),
                    "times": points.times,
                    "values": points.values,
                    "windows": windows,
                    "denied": denied,
                }
            )
    return labelled


def _name(info: StoredSeries) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(info.labels.items()))
    return f"{info.metric}{{{labels}}}" if labels else info.metric


async def delete_expired_feedback(ctx: TenantContext, before: float) -> None:
    """Delete feedback on points before a time (epoch seconds)."""
    pipe = ctx.stores.online.pipeline()
    pipe.hkeys(keys.FEEDBACK).hgetall(keys.MISSED)
    feedback, reports = await pipe.execute()
    old = [anomaly for anomaly in feedback if float(anomaly.decode().rpartition("-")[2]) < before]
    gone = [id for id, text in reports.items() if orjson.loads(text)["to"] < before]
    for place, ids in ((keys.FEEDBACK, old), (keys.MISSED, gone)):
        if ids:
            await ctx.stores.online.hdel(place, *ids)
