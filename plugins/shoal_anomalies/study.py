"""What `shoal tune anomalies` searches by, and the job `anomalies.learn` with it:
labelled windows, scored as the Numenta Anomaly Benchmark scores them.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal import Invalid

from .detector import DEFAULT_THRESHOLD, judged, surprises
from .parameters import AnomalyParameters
from .timestamps import seconds

FALSE_POSITIVE = 0.11
DENIED = 1.0  # what an alarm costs that somebody said was none: as much as a window missed
PROBATION = 0.15, 750
Places = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One series: the surprise of each point (which no parameter changes), and the
    windows (first and last index, inclusive) in which it was truly odd, and in which
    people said that it was not.
    """

    name: str
    surprises: NDArray[np.float64]
    windows: Places
    denied: Places = ()


def load(path: str) -> list[Labelled]:
    """Labelled series from a folder `<group>/<series>.csv` (timestamp,value) with
    `windows.json` ({series: [[start, end], …]}), or from a JSON file `{"series":
    [{"name", "times", "values", "windows", "denied"?}, …]}`, as `GET /anomalies/labels`
    gives.

    Raises Invalid when it is none of these, or when there is nothing to learn from.
    """
    where = Path(path)
    try:
        records = _folder(where) if where.is_dir() else json.loads(where.read_text())["series"]
        found = [labelled(record) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise Invalid(f"{path}: no labelled series: {type(fault).__name__}: {fault}") from fault
    if not any(series.windows for series in found):
        raise Invalid(
            f"{path}: no window in {len(found)} series: say what was an anomaly, or what was missed; to be told "
            "only of false alarms teaches silence"
        )
    return found


def _folder(folder: Path) -> list[dict[str, Any]]:
    records = []
    for name, windows in sorted(json.loads((folder / "windows.json").read_text()).items()):
        with (folder / name).open() as file:
            rows = list(csv.DictReader(file))
        records.append({
            "name": name, "times": [r["timestamp"] for r in rows], "values": [float(r["value"]) for r in rows],
            "windows": windows,
        })  # fmt: skip
    return records


def labelled(record: Mapping[str, Any]) -> Labelled:
    """A series from its `name`, `times`, `values`, `windows` and `denied`, in any form
    of times that `clock.seconds` reads.
    """
    times = seconds(record["times"])

    def places(bounds: Sequence[Sequence[Any]]) -> Places:
        pairs = [seconds(list(pair)) for pair in bounds]
        return tuple(
            (int(np.searchsorted(times, a)), int(np.searchsorted(times, b, side="right")) - 1)
            for a, b in pairs
        )

    return Labelled(
        str(record["name"]), surprises(times, record["values"]), places(record["windows"]), places(record.get("denied", ()))
    )  # fmt: skip


def objective(parameters: AnomalyParameters, data: Sequence[Labelled]) -> float:
    """The benchmark's standard profile at the fixed threshold: 100 finds every window
    at its start with no false alarm, 0 is what saying nothing gets. An alarm that was
    denied costs as much as a window missed.
    """
    gained, count = 0.0, 0
    for series in data:
        alarms = np.flatnonzero(
            judged(series.surprises, parameters.settings()) >= DEFAULT_THRESHOLD
        ).tolist()
        gained += gain(alarms, len(series.surprises), series.windows)
        gained -= DENIED * sum(any(a <= i <= b for i in alarms) for a, b in series.denied)
        count += len(series.windows)
    return 100 * gained / (2 * max(count, 1))


def suggest(
    data: Sequence[Labelled], current: AnomalyParameters, tries: int = 60
) -> tuple[AnomalyParameters, float, float]:
    """(the best parameters found near the current ones, their objective, the current
    ones' objective).

    Parameters that make no difference stay as they are; the same data gives the same
    answer.
    """
    random = np.random.default_rng(0)
    before = objective(current, data)
    best, value = current, before
    for candidate in [
        AnomalyParameters.model_validate({}),
        *(_near(current, random) for _ in range(tries)),
    ]:
        reached = objective(candidate, data)
        if reached > value:
            best, value = candidate, reached
    for name in AnomalyParameters.model_fields:
        simpler = best.model_copy(update={name: getattr(current, name)})
        if objective(simpler, data) >= value:
            best = simpler
    return best, objective(best, data), before


def _near(current: AnomalyParameters, random: np.random.Generator) -> AnomalyParameters:
    """The parameters with each half or one and a half as much, about, within its
    bounds.
    """
    changed: dict[str, float] = {}
    for name, field in AnomalyParameters.model_fields.items():
        low, high = (
            next(getattr(m, bound) for m in field.metadata if hasattr(m, bound))
            for bound in ("ge", "le")
        )
        moved = min(max(getattr(current, name) * math.exp(random.normal(0, 0.4)), low), high)
        changed[name] = round(moved) if field.annotation is int else round(moved, 3)
    return AnomalyParameters.model_validate(changed)


def gain(alarms: Sequence[int], length: int, windows: Sequence[tuple[int, int]]) -> float:
    """What alarms at these indices are worth over silence: up to 2 for each window,
    less for a late find and for false alarms.

    Source: A. Lavin, S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms",
    2015.
    """
    first = min(math.floor(PROBATION[0] * length), PROBATION[0] * 5000)
    best = [-1.0] * len(windows)
    lost = 0.0
    for i in alarms:
        if i < first:
            continue
        inside = next((k for k, (a, b) in enumerate(windows) if a <= i <= b), None)
        if inside is not None:
            a, b = windows[inside]
            best[inside] = max(best[inside], _sigmoid(-(b - i + 1) / (b - a + 1)) / _sigmoid(-1.0))
            continue
        before = [(a, b) for a, b in windows if b < i]
        lost += FALSE_POSITIVE * (
            _sigmoid((i - before[-1][1]) / max(before[-1][1] - before[-1][0], 1))
            if before
            else -1.0
        )
    return sum(best) + len(windows) + lost


def _sigmoid(x: float) -> float:
    return -1.0 if x > 3 else 2 / (1 + math.exp(5 * x)) - 1
