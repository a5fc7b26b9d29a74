"""What `shoal tune anomalies` searches by: labelled windows, scored as the Numenta Anomaly Benchmark scores them."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clock import seconds
from .detector import DEFAULT_THRESHOLD, score_series
from .parameters import AnomalyParameters

FALSE_POSITIVE = 0.11
PROBATION = 0.15, 750


@dataclass(frozen=True, slots=True)
class Labelled:
    """One series and the windows (first and last index, inclusive) in which it was truly odd."""

    name: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    windows: tuple[tuple[int, int], ...]


def load(path: str) -> list[Labelled]:
    """Labelled series from a folder `<group>/<series>.csv` (timestamp,value) with `windows.json` ({series: [[start, end], …]}), or from a
    JSON file `{"series": [{"name", "times", "values", "windows"}, …]}`, as `GET /anomalies` with feedback can be turned into.

    Raises ValueError when there is nothing to learn from.
    """
    where = Path(path)
    found = _folder(where) if where.is_dir() else _document(json.loads(where.read_text()))
    if not any(series.windows for series in found):
        raise ValueError(f"{path}: no labelled window in {len(found)} series")
    return found


def _folder(folder: Path) -> list[Labelled]:
    labels = json.loads((folder / "windows.json").read_text())
    found = []
    for name, windows in sorted(labels.items()):
        with (folder / name).open() as file:
            rows = list(csv.DictReader(file))
        found.append(
            _labelled(name, [r["timestamp"] for r in rows], [float(r["value"]) for r in rows], windows)
        )
    return found


def _document(document: Any) -> list[Labelled]:
    return [_labelled(s["name"], s["times"], s["values"], s["windows"]) for s in document["series"]]


def _labelled(
    name: str, stamps: Sequence[Any], values: Sequence[float], windows: Sequence[Sequence[Any]]
) -> Labelled:
    times = seconds(list(stamps))
    bounds = [seconds(list(window)) for window in windows]
    places = tuple(
        (int(np.searchsorted(times, a)), int(np.searchsorted(times, b, side="right")) - 1) for a, b in bounds
    )
    return Labelled(name, times, np.asarray(values, dtype=np.float64), places)


def objective(parameters: AnomalyParameters, data: Sequence[Labelled]) -> float:
    """The benchmark's standard profile at the fixed threshold: 100 finds every window at its start with no false alarm, 0 is
    what saying nothing gets."""
    gained, count = 0.0, 0
    for series in data:
        scores = score_series(series.times, series.values, parameters.settings())
        gained += gain(np.flatnonzero(scores >= DEFAULT_THRESHOLD).tolist(), len(scores), series.windows)
        count += len(series.windows)
    return 100 * gained / (2 * count)


def gain(alarms: Sequence[int], length: int, windows: Sequence[tuple[int, int]]) -> float:
    """What alarms at these indices are worth over silence: up to 2 for each window, less for a late find and for false alarms.

    Source: A. Lavin, S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", 2015.
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
            _sigmoid((i - before[-1][1]) / max(before[-1][1] - before[-1][0], 1)) if before else -1.0
        )
    return sum(best) + len(windows) + lost


def _sigmoid(x: float) -> float:
    return -1.0 if x > 3 else 2 / (1 + math.exp(5 * x)) - 1
