"""Faults injected into a shop of microservices: how many are found within 10 minutes.

    python benchmarks/anomalies_petshop.py

The front end's requests, latency (mean and 99th percentile) and availability, every 5
minutes: 2 days without faults, and 26 faults of 25 minutes each from another month. The
fault-free days, scaled to the level of that month (by the medians before the faults),
are the history of each fault. An alarm is one of the service: on any of its metrics, or
on their combination. False alarms count once an hour.
"""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shoal_anomalies import DEFAULT_THRESHOLD, seasonal
from shoal_anomalies.batch_scoring import UNUSUAL_COMBINATION
from shoal_anomalies.detector import Detector
from shoal_anomalies.multivariate import CombinationForest
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.statistical import z_scores

REFERENCE = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[2] / "shared" / "data"))
METRICS = {
    "requests": ("requests", "Sum"),
    "latency": ("latency", "Average"),
    "latency_p99": ("latency", "p99"),
    "availability": ("availability", "Average"),
}
SERVICE = "PetSite"
WITHIN = 600  # seconds
STEP = 300  # seconds
WARM_UP = 144  # points that do not count: half a day
Array = NDArray[np.float64]
Scorer = Callable[[Array, Array, Array], Array]
"""(history, times, rows) → scores of the history and of the rows; alarms are from 1 on.

Models are fitted to the history, which comes right before the rows.
"""


def read(folder: Path) -> tuple[Array, Array]:
    """Times, and a row of METRICS for each."""
    with (folder / "metrics.csv").open() as file:
        lines = list(csv.reader(file))
    names = list(zip(*lines[:3], strict=True))
    columns = [names.index((SERVICE, *metric)) for metric in METRICS.values()]
    rows = [line for line in lines[3:] if line[0][:1].isdigit()]
    table = np.array([[float(row[c] or "nan") for c in columns] for row in rows])
    return np.array([float(row[0]) for row in rows]), table


def by_z(history: Array, times: Array, rows: Array) -> Array:
    return np.max([np.abs(z_scores(column)) / 3 for column in np.vstack([history, rows]).T], axis=0)


def by_season(history: Array, times: Array, rows: Array) -> Array:
    before = times[0] - STEP * np.arange(len(history), 0, -1)
    scores = []
    for past, column in zip(history.T, rows.T, strict=True):
        expected, _, high = seasonal.fit(before, past).band(np.concatenate([before, times]))
        scores.append(np.abs(np.concatenate([past, column]) - expected) / (high - expected))
    return np.max(scores, axis=0)


def forest_surprisals(history: Array, rows: Array) -> Array:
    """Surprisals by forests: of the rows, and of each half of the history.

    For a half of the history, the forest is fitted to the other half.
    """
    half = len(history) // 2
    parts = [(history[half:], history[:half]), (history[:half], history[half:]), (history, rows)]
    return np.concatenate(
        [CombinationForest(list(METRICS)).fit(past).surprisals(new) for past, new in parts]
    )


def by_forest(history: Array, times: Array, rows: Array) -> Array:
    return forest_surprisals(history, rows) / UNUSUAL_COMBINATION


def combined(history: Array, times: Array, rows: Array) -> Array:
    """The platform's method: a detector per metric, with its season and the forest."""
    before = times[0] - STEP * np.arange(len(history), 0, -1)
    states = [
        SeriesState(metric, metric, {}, Detector(), model=seasonal.fit(before, past))
        for metric, past in zip(METRICS, history.T, strict=True)
    ]
    surprisals = forest_surprisals(history, rows)
    scores = []
    for time, row, surprisal in zip(
        [*before, *times], np.vstack([history, rows]), surprisals, strict=True
    ):
        verdicts = [
            state.score(float(time), float(value), float(surprisal))
            for state, value in zip(states, row, strict=True)
        ]
        scores.append(max(verdict.score for verdict in verdicts))
    return np.array(scores) / DEFAULT_THRESHOLD


METHODS: dict[str, Scorer] = {
    "rolling z, |z| > 3": by_z,
    "season (STL band)": by_season,
    "Isolation Forest": by_forest,
    "combined": combined,
}


def count_hours(alarms: NDArray[np.bool_]) -> int:
    """Hours with an alarm."""
    return len(np.unique(np.flatnonzero(alarms) // (3600 // STEP)))


@dataclass(frozen=True)
class Fault:
    """A fault, and the metrics around it. Times are epoch seconds."""

    times: Array
    rows: Array
    start: float
    metric: str


def read_faults(folder: Path) -> list[Fault]:
    faults = []
    for path in sorted(folder.glob("t*/issue_*")):
        target = json.loads((path / "target.json").read_text())["target"]
        faults.append(Fault(*read(path), float(target["timestamp"]), target["metric"]))
    return faults


def most_found(peaks: Array, calm_scores: Array, days: float, allowed: int) -> int:
    """Faults found at the best threshold with at most so many false alarms a day."""
    thresholds = [
        t for t in np.unique(calm_scores) + 1e-9 if count_hours(calm_scores >= t) / days <= allowed
    ]
    return max((int((peaks >= t).sum()) for t in thresholds), default=0)


def main() -> None:
    folder = REFERENCE / "petshop" / "high_traffic"
    if not folder.is_dir():
        raise SystemExit(f"no reference data at {REFERENCE} (set SHOAL_REFERENCE)")
    calm_times, calm = read(folder / "noissue")
    faults = read_faults(folder)
    before = np.vstack([f.rows[f.times + STEP <= f.start] for f in faults])
    history = calm * (np.nanmedian(before, axis=0) / np.nanmedian(calm, axis=0))
    history[:, -1] = np.minimum(history[:, -1], 100.0)
    days = (len(calm) - WARM_UP) * STEP / 86_400
    is_latency = np.array([fault.metric == "latency" for fault in faults])
    print(
        f"{len(faults)} faults ({is_latency.sum()} of latency), "
        f"{len(calm) * STEP / 86_400:.1f} days without faults\n"
    )
    print(f"{'':22s}{'at the default threshold':^62s}{'found at false alarms/day of':^30s}")
    print(
        f"{'':22s}{'found':>12s}{'latency':>9s}{'availab.':>9s}{'before fault':>14s}"
        f"{'false/day':>12s}{'F1':>6s}{'<= 1':>14s}{'<= 2':>8s}{'<= 4':>8s}"
    )
    for name, method in METHODS.items():
        peaks, early = np.zeros(len(faults)), np.zeros(len(faults))
        for i, f in enumerate(faults):
            scores = method(history, f.times, f.rows)[len(history) :]
            within = (f.times + STEP > f.start) & (f.times <= f.start + WITHIN)
            peaks[i], early[i] = scores[within].max(), scores[f.times + STEP <= f.start].max()
        after_calm = calm_times[-1] + STEP + STEP * np.arange(2)
        calm_scores = method(calm, after_calm, calm[:2])[WARM_UP : len(calm)]
        found = [most_found(peaks, calm_scores, days, allowed) for allowed in (1, 2, 4)]
        hits, false = int((peaks >= 1).sum()), count_hours(calm_scores >= 1) / days
        precision, recall = hits / max(hits + false, 1), hits / len(faults)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        print(
            f"{name:22s}{hits:6d} of {len(faults)}{int((peaks[is_latency] >= 1).sum()):9d}"
            f"{int((peaks[~is_latency] >= 1).sum()):9d}{int((early >= 1).sum()):14d}"
            f"{false:12.1f}{f1:6.2f}{found[0]:14d}{found[1]:8d}{found[2]:8d}"
        )
    print(
        "\nForests score the half of the fault-free days that they were not fitted to; the season"
        "\nneeds both halves, so its false alarms are optimistic."
    )


if __name__ == "__main__":
    main()
