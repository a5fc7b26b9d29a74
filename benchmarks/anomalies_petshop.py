"""Injected faults in a shop of microservices: how many are found within 10 minutes, and
at how many false alarms a day.

    python benchmarks/anomalies_petshop.py

The front end's requests, latency (mean and 99th percentile) and availability, every 5
minutes: 2 days without faults, and 26 faults of 25 minutes each from another month. The
calm days, brought to the level of that month (by the medians of the rows before the
faults), are each fault's history. Methods are compared as alarms of the service: any of
its metrics, or their combination; false alarms are the hours that have one.
"""

import csv
import json
import os
from collections.abc import Callable
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
    "requests": ("requests", "Sum"), "latency": ("latency", "Average"), "latency_p99": ("latency", "p99"),
    "availability": ("availability", "Average"),
}  # fmt: skip
SERVICE = "PetSite"
WITHIN = 600
STEP = 300
WARM_UP = 144  # points: half a day, not counted
Array = NDArray[np.float64]
Odd = Callable[[Array, Array, Array], Array]
"""(history, times, rows) → how odd the history's rows and the rows are; 1 and above is
an alarm. Models are fitted to the history, which comes right before the rows.
"""


def read(folder: Path) -> tuple[Array, Array]:
    """(times, a row of METRICS each)."""
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
    odd = []
    for past, column in zip(history.T, rows.T, strict=True):
        expected, _, high = seasonal.fit(before, past).band(np.concatenate([before, times]))
        odd.append(np.abs(np.concatenate([past, column]) - expected) / (high - expected))
    return np.max(odd, axis=0)


def forest_surprisals(history: Array, rows: Array) -> Array:
    """Of the rows by a forest fitted to the history, and of each half of the history by
    one fitted to the other half.
    """
    half = len(history) // 2
    parts = [(history[half:], history[:half]), (history[:half], history[half:]), (history, rows)]
    return np.concatenate(
        [CombinationForest(list(METRICS)).fit(past).surprisals(new) for past, new in parts]
    )


def by_forest(history: Array, times: Array, rows: Array) -> Array:
    return forest_surprisals(history, rows) / UNUSUAL_COMBINATION


def combined(history: Array, times: Array, rows: Array) -> Array:
    """As the platform does it: a detector per metric, told by the season's band and by
    the forest.
    """
    before = times[0] - STEP * np.arange(len(history), 0, -1)
    state = [
        SeriesState(m, m, {}, Detector(), model=seasonal.fit(before, past))
        for m, past in zip(METRICS, history.T, strict=True)
    ]
    whole = np.vstack([history, rows])
    odd = []
    for time, row, together in zip(
        [*before, *times], whole, forest_surprisals(history, rows), strict=True
    ):
        odd.append(
            max(
                w.score(float(time), float(v), float(together)).score
                for w, v in zip(state, row, strict=True)
            )
        )
    return np.array(odd) / DEFAULT_THRESHOLD


METHODS: dict[str, Odd] = {
    "rolling z, |z| > 3": by_z, "season (STL band)": by_season, "Isolation Forest": by_forest, "combined": combined,
}  # fmt: skip


def incidents(alarms: NDArray[np.bool_]) -> int:
    """Hours with an alarm in them."""
    return len(np.unique(np.flatnonzero(alarms) // (3600 // STEP)))


def main() -> None:
    folder = REFERENCE / "petshop" / "high_traffic"
    if not folder.is_dir():
        raise SystemExit(f"no reference data at {REFERENCE} (set SHOAL_REFERENCE)")
    calm_times, calm = read(folder / "noissue")
    faults = []
    for path in sorted(folder.glob("t*/issue_*")):
        target = json.loads((path / "target.json").read_text())["target"]
        faults.append((*read(path), float(target["timestamp"]), target["metric"]))
    before = np.vstack([rows[times + STEP <= start] for times, rows, start, _ in faults])
    history = calm * (np.nanmedian(before, axis=0) / np.nanmedian(calm, axis=0))
    history[:, -1] = np.minimum(history[:, -1], 100.0)
    days = (len(calm) - WARM_UP) * STEP / 86_400
    print(
        f"{len(faults)} faults ({sum(m == 'latency' for *_, m in faults)} of latency), {len(calm) * STEP / 86_400:.1f} calm days\n"
    )
    print(f"{'':22s}{'at the default threshold':^72s}{'found at false alarms/day of':^30s}")
    print(
        f"{'':22s}{'found':>12s}{'latency':>9s}{'availab.':>9s}{'before fault':>14s}{'false/day':>12s}{'F1':>6s}{'<= 1':>14s}{'<= 2':>8s}{'<= 4':>8s}"
    )
    for name, method in METHODS.items():
        during, early, kinds = [], [], []
        for times, rows, start, kind in faults:
            odd = method(history, times, rows)[len(history) :]
            during.append(odd[(times + STEP > start) & (times <= start + WITHIN)].max())
            early.append(odd[times + STEP <= start].max())
            kinds.append(kind)
        peaks, is_latency = np.array(during), np.array(kinds) == "latency"
        quiet = method(calm, calm_times[-1] + STEP + STEP * np.arange(2), calm[:2])[
            WARM_UP : len(calm)
        ]
        found = [
            max(
                (
                    int((peaks >= t).sum())
                    for t in np.unique(quiet) + 1e-9
                    if incidents(quiet >= t) / days <= most
                ),
                default=0,
            )
            for most in (1, 2, 4)
        ]
        hits, false = int((peaks >= 1).sum()), incidents(quiet >= 1) / days
        precision, recall = hits / max(hits + false, 1), hits / len(faults)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        print(
            f"{name:22s}{hits:6d} of {len(faults)}{int((peaks[is_latency] >= 1).sum()):9d}"
            f"{int((peaks[~is_latency] >= 1).sum()):9d}{int((np.array(early) >= 1).sum()):14d}"
            f"{false:12.1f}{f1:6.2f}{found[0]:14d}{found[1]:8d}{found[2]:8d}"
        )
    print(
        "\nForests judge the half of the calm days that they were not fitted to; the season needs both, and is flattered by it."
    )


if __name__ == "__main__":
    main()
