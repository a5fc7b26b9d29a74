"""What people said of anomalies, and of what was missed, as labelled series to learn
from.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from shoal import TenantContext

from . import keys, recent_points
from .archive import Archive
from .points import KEPT

BEFORE, AFTER = 5, 10  # points around an anomaly that a verdict on it is about
Spans = list[tuple[float, float]]


def spans(
    times: NDArray[np.float64], verdicts: Sequence[tuple[float, bool]], missed: Spans
) -> tuple[Spans, Spans]:
    """(windows, denied) of one series, in epoch seconds: when it was truly odd, and
    when people said that it was not.

    verdicts: (time of an anomaly, whether it was one). missed: from and to of what
    nobody was told of. Windows that overlap are one; a denial within a window gives way
    to it.
    """
    around: dict[bool, Spans] = {True: [], False: []}
    for time, was_one in verdicts:
        place = int(
            np.searchsorted(times, time - 0.5)
        )  # an anomaly's id has its time in whole seconds
        if place < len(times) and times[place] <= time + 0.5:
            last = min(place + AFTER, len(times) - 1)
            around[was_one].append((float(times[max(place - BEFORE, 0)]), float(times[last])))
    within = [
        (a, b)
        for a, b in missed
        if np.searchsorted(times, a) < np.searchsorted(times, b, side="right")
    ]
    windows = _united(around[True] + within)
    denied = [(a, b) for a, b in around[False] if not any(a <= d and c <= b for c, d in windows)]
    return windows, _united(denied)


def _united(spans: Spans) -> Spans:
    found: Spans = []
    for a, b in sorted(spans):
        if found and a <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], b)
        else:
            found.append((a, b))
    return found


async def labelled(
    ctx: TenantContext, archive: Archive, start: float = 0.0
) -> list[dict[str, Any]]:
    """Every series of the tenant that somebody judged since `start` (at most 90 days
    ago), as `study.labelled` reads it: name, times, values, windows, denied.
    """
    pipe = ctx.stores.online.pipeline()
    pipe.hgetall(keys.FEEDBACK).hgetall(keys.MISSED).hgetall(keys.SERIES)
    said, missed, known = await pipe.execute()
    verdicts: dict[str, list[tuple[float, bool]]] = {}
    unseen: dict[str, Spans] = {}
    for id, text in said.items():
        series, _, time = id.decode().rpartition("-")
        verdicts.setdefault(series, []).append((float(time), orjson.loads(text)["anomaly"]))
    for text in missed.values():
        record = orjson.loads(text)
        unseen.setdefault(record["series"], []).append((record["from"], record["to"]))
    wanted = sorted(s for s in verdicts.keys() | unseen.keys() if s.encode() in known)
    if not wanted:
        return []
    now = datetime.now(UTC)
    start, end = max(start, (now - KEPT).timestamp()), now.timestamp()
    old = await archive.read_all(start, end, wanted)
    found = []
    for series in wanted:
        hot = recent_points.merged(
            recent_points.unpack(await ctx.stores.online.get(keys.tail(series)))
        )
        whole = recent_points.joined(old.get(series, recent_points.NOTHING), hot).between(
            start, end
        )
        windows, denied = spans(whole.times, verdicts.get(series, ()), unseen.get(series, []))
        if windows or denied:
            about = orjson.loads(known[series.encode()])
            found.append(
                {"name": _name(about), "times": whole.times, "values": whole.values, "windows": windows, "denied": denied}
            )  # fmt: skip
    return found


def _name(about: Mapping[str, Any]) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(about["labels"].items()))
    return f"{about['metric']}{{{labels}}}" if labels else str(about["metric"])


async def expire(ctx: TenantContext, before: float) -> None:
    """Forget what was said of points that are no longer kept."""
    pipe = ctx.stores.online.pipeline()
    pipe.hkeys(keys.FEEDBACK).hgetall(keys.MISSED)
    said, missed = await pipe.execute()
    old = [id for id in said if float(id.decode().rpartition("-")[2]) < before]
    gone = [id for id, text in missed.items() if orjson.loads(text)["to"] < before]
    for place, ids in ((keys.FEEDBACK, old), (keys.MISSED, gone)):
        if ids:
            await ctx.stores.online.hdel(place, *ids)
