"""The anomaly detector and peers on the Numenta Anomaly Benchmark, by its own rules.

    python benchmarks/anomalies_nab.py

Needs the reference data (SHOAL_REFERENCE, or `../shared/data` beside the repository)
and its `tools/nabscore.py`.
"""

import importlib.util
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import machine
from numpy.typing import NDArray

from shoal_anomalies import DEFAULT_THRESHOLD, score_series, seasonal
from shoal_anomalies.detector import Detector
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.statistical import z_scores

REFERENCE = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[2] / "shared" / "data"))
PUBLISHED = {
    "Numenta HTM": 73.6,
    "CAD OSE": 71.7,
    "ARTime": 71.1,
    "Random Cut Forest": 56.7,
    "Twitter ADVec": 43.6,
    "Etsy Skyline": 38.6,
    "windowed Gaussian": 35.0,
}
Array = NDArray[np.float64]


def windowed_gaussian(times: Array, values: Array) -> Array:
    """The benchmark's own baseline: Gaussian probability over the last 6,400 values.

    Refitted every 100 values.
    """
    scores, mean, deviation = np.zeros(len(values)), 0.0, 1.0
    for i, value in enumerate(values):
        if i and (i < 100 or i % 100 == 0):
            window = values[max(0, i - 6400) : i]
            mean, deviation = float(window.mean()), float(window.std()) or 1e-6
        scores[i] = math.erf(abs(value - mean) / deviation / math.sqrt(2))
    return scores


def robust_z(times: Array, values: Array) -> Array:
    """Shoal's statistical method alone: |z| = 3 scores 0.5."""
    z = np.abs(z_scores(values))
    return np.asarray(z / (z + 3))


def isolation_forest(times: Array, values: Array) -> Array:
    """PyOD's Isolation Forest over windows of eight values, fitted to the probation."""
    from pyod.models.iforest import IForest

    width = 8
    rows = np.lib.stride_tricks.sliding_window_view(values, width)
    start = max(int(min(0.15 * len(values), 750)), 50)
    forest = IForest(random_state=0, contamination=0.01).fit(rows[:start])
    scores = forest.decision_function(rows)
    return np.concatenate([np.zeros(width - 1), 1 / (1 + np.exp(-20 * scores))])


METHODS: dict[str, tuple[Callable[[Array, Array], Array], float]] = {
    "Shoal, combined": (score_series, DEFAULT_THRESHOLD),
    "Shoal, rolling robust z alone": (robust_z, 0.5),
    "PyOD Isolation Forest, 8 lags": (isolation_forest, 0.5),
    "windowed Gaussian (NAB's)": (windowed_gaussian, 0.9999),
}


def quiet_series(weeks: int = 4) -> dict[str, Array]:
    """Generated series without anomalies, a point every five minutes."""
    random = np.random.default_rng(7)
    n = weeks * 2016
    hour = np.arange(n) / 12
    day = np.sin(2 * np.pi * hour / 24)
    noise = random.normal(0, 1, n)
    wander = np.zeros(n)
    for i in range(1, n):
        wander[i] = 0.9 * wander[i - 1] + noise[i]
    return {
        "white noise": 50 + noise,
        "autocorrelated (AR 0.9)": 50 + wander,
        "daily season and noise": 100 + 30 * day + 3 * noise,
        "office hours, weekday": random.poisson(
            5 + 200 * ((hour % 24 > 8) & (hour % 24 < 18) & (hour // 24 % 7 < 5))
        ).astype(float),
        "Poisson counts": random.poisson(3, n).astype(float),
        "log-normal latency": np.exp(random.normal(0, 0.5, n)),
        "rare bursts": np.where(random.random(n) < 0.003, random.exponential(50, n), 0.0),
        "random walk": np.cumsum(noise),
    }


def fitted_alarms(times: Array, values: Array) -> float:
    """Alarms per week in the second half, with a season fitted to the first."""
    half = len(values) // 2
    state = SeriesState("s", "s", {}, Detector())
    scores = []
    for i, (moment, value) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        if i == half:
            state.model = seasonal.fit(times[:half], values[:half])
        scores.append(state.score(moment, value).score)
    return int((np.array(scores[half:]) >= DEFAULT_THRESHOLD).sum()) / (half / 2016)


def load_scorer() -> Any:
    """The benchmark's own scoring rules, a module of the reference data."""
    tool = REFERENCE.parent / "tools" / "nabscore.py"
    if not tool.is_file():
        raise SystemExit(f"no reference data at {REFERENCE} (set SHOAL_REFERENCE)")
    spec = importlib.util.spec_from_file_location("nabscore", tool)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_series(folder: Path) -> dict[str, tuple[list[str], Array]]:
    """Times and values by the name of the series."""
    series = {}
    for path in sorted(folder.glob("*/*.csv")):
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        times = [row[0][:19] for row in rows]
        values = np.array([float(row[1]) for row in rows])
        series[path.relative_to(folder).as_posix()] = (times, values)
    return series


def compare_methods() -> None:
    """Print the scores of each method, at its threshold and the best in hindsight."""
    nab, folder = load_scorer(), REFERENCE / "nab"
    series = read_series(folder)
    labels = json.loads((folder / "windows.json").read_text())
    windows = {name: [(a[:19], b[:19]) for a, b in spans] for name, spans in labels.items()}
    window_count = sum(len(windows[name]) for name in series)
    point_count = sum(len(values) for _, values in series.values())
    print(f"{len(series)} series, {point_count:,} points, {window_count} windows; {machine()}\n")
    print(f"{'':32s}{'standard':>18s}{'low FP':>18s}{'low FN':>18s}{'points/s/core':>16s}")
    print(f"{'':32s}" + f"{'fixed':>9s}{'hindsight':>9s}" * 3)
    for label, (method, threshold) in METHODS.items():
        started = time.process_time()
        scores = {}
        for name, (stamps, values) in series.items():
            times = np.array(stamps, dtype="datetime64[s]").astype(np.int64).astype(float)
            scores[name] = method(times, values).tolist()
        rate = point_count / (time.process_time() - started)
        line = f"{label:32s}"
        for tp, fp, fn in nab.PROFILES.values():
            points = [
                point
                for name, (stamps, _) in series.items()
                for point in nab.file_points(stamps, scores[name], windows[name], tp, fp, name)
            ]
            fixed = nab.normalise(nab.score_at(points, fn, threshold), window_count, tp, fn)
            best = nab.normalise(nab.sweep(points, fn)[0], window_count, tp, fn)
            line += f"{fixed:9.1f}{best:9.1f}"
        print(line + f"{rate:16,.0f}")
    published = ", ".join(f"{name} {score}" for name, score in PUBLISHED.items())
    print(f"\nPublished, standard profile in hindsight: {published}")


def count_false_alarms() -> None:
    """Print false alarms per series and week on generated series."""
    print(
        "\nFalse alarms per series and week on generated series without anomalies (without the"
        "\nfirst day); then with a season fitted to the first two weeks, in the third and fourth:"
    )
    for name, values in quiet_series().items():
        times = 300.0 * np.arange(len(values))
        alarms = score_series(times, values)[288:] >= DEFAULT_THRESHOLD
        weeks = [int(part.sum()) for part in np.array_split(alarms, 4)]
        rate, fitted = sum(weeks) / (len(values) / 2016), fitted_alarms(times, values)
        print(f"  {name:28s}{rate:5.2f}   by week {weeks!s:20s}{fitted:5.2f}")


def main() -> None:
    compare_methods()
    count_false_alarms()


if __name__ == "__main__":
    main()
