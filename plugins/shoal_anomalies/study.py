"""Search for better parameters: labelled series, and how well parameters score on them.

The score is that of the Numenta Anomaly Benchmark. `shoal tune anomalies` and the job
`anomalies.learn` search by it.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shoal import Invalid

from .alarm_policy import DEFAULT_THRESHOLD
from .detector import Rarity, alarm_scores, rarity
from .parameters import AnomalyParameters
from .timestamps import epoch_seconds

FALSE_POSITIVE = 0.11
DENIED = 1.0  # cost of an alarm that people denied: as much as a missed window
PROBATION = 0.15  # share at the start of a series that does not count…
PROBATION_LIMIT = 5000  # … of at most so many points
Ranges = tuple[tuple[int, int], ...]  # first and last index, inclusive


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """One series with labels.

    rarity: of each point; no parameter changes it.
    windows: where it was anomalous.
    denied: where people said that it was not.
    """

    name: str
    rarity: Rarity
    windows: Ranges
    denied: Ranges = ()


def load_labelled_series(path: str) -> list[LabelledSeries]:
    """Read labelled series from files.

    Args:
        path: A folder of `<group>/<series>.csv` (timestamp,value) with `windows.json`
            ({series: [[start, end], …]}), or a JSON file `{"series": [{"name", "times",
            "values", "windows", "denied"?}, …]}`, as `GET /anomalies/labels` returns.

    Raises:
        Invalid: It is neither, or it has no window to learn from.
    """
    where = Path(path)
    try:
        records = _read_folder(where) if where.is_dir() else json.loads(where.read_text())["series"]
        found = [to_labelled_series(record) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path}: no labelled series: {type(error).__name__}: {error}") from error
    if not any(series.windows for series in found):
        raise Invalid(
            f"{path}: no anomalous window in {len(found)} series; confirm anomalies or report "
            "missed ones: from false alarms alone, the best parameters raise none"
        )
    return found


def _read_folder(folder: Path) -> list[dict[str, Any]]:
    records = []
    for name, windows in sorted(json.loads((folder / "windows.json").read_text()).items()):
        with (folder / name).open() as file:
            rows = list(csv.DictReader(file))
        records.append(
            {
                "name": name,
                "times": [row["timestamp"] for row in rows],
                "values": [float(row["value"]) for row in rows],
                "windows": windows,
            }
        )
    return records


def to_labelled_series(record: Mapping[str, Any]) -> LabelledSeries:
    """A series from its `name`, `times`, `values`, `windows` and `denied`.

    Times are in any form that `epoch_seconds` reads.
    """
    times = epoch_seconds(record["times"])

    def ranges(spans: Sequence[Sequence[Any]]) -> Ranges:
        bounds = [epoch_seconds(list(span)) for span in spans]
        return tuple(
            (int(np.searchsorted(times, a)), int(np.searchsorted(times, b, side="right")) - 1)
            for a, b in bounds
        )

    return LabelledSeries(
        name=str(record["name"]),
        rarity=rarity(times, record["values"]),
        windows=ranges(record["windows"]),
        denied=ranges(record.get("denied", ())),
    )


def objective(parameters: AnomalyParameters, data: Sequence[LabelledSeries]) -> float:
    """The benchmark's standard score of parameters, at the fixed threshold.

    100 finds every window at its start without a false alarm; 0 is the score of no
    alarms. An alarm that people denied costs as much as a missed window.
    """
    gained, count = 0.0, 0
    for series in data:
        scores = alarm_scores(series.rarity, parameters.settings())
        alarms = np.flatnonzero(scores >= DEFAULT_THRESHOLD).tolist()
        gained += benchmark_gain(alarms, len(series.rarity), series.windows)
        gained -= DENIED * sum(any(a <= i <= b for i in alarms) for a, b in series.denied)
        count += len(series.windows)
    return 100 * gained / (2 * max(count, 1))


def suggest_parameters(
    data: Sequence[LabelledSeries], current: AnomalyParameters, tries: int = 60
) -> tuple[AnomalyParameters, float, float]:
    """Search for better parameters near the current ones.

    Parameters that make no difference keep their values. The search is deterministic.

    Args:
        data: Labelled series.
        current: The current parameters.
        tries: The number of candidates.

    Returns:
        The best parameters, their objective, and the objective of the current ones.
    """
    random = np.random.default_rng(0)
    before = objective(current, data)
    best, best_value = current, before
    for candidate in [
        AnomalyParameters.model_validate({}),
        *(_vary(current, random) for _ in range(tries)),
    ]:
        value = objective(candidate, data)
        if value > best_value:
            best, best_value = candidate, value
    for name in AnomalyParameters.model_fields:
        simpler = best.model_copy(update={name: getattr(current, name)})
        if objective(simpler, data) >= best_value:
            best = simpler
    return best, objective(best, data), before


def _vary(current: AnomalyParameters, random: np.random.Generator) -> AnomalyParameters:
    """The parameters, each multiplied by a log-normal factor within its bounds."""
    varied: dict[str, float] = {}
    for name, field in AnomalyParameters.model_fields.items():
        low, high = (
            next(getattr(m, bound) for m in field.metadata if hasattr(m, bound))
            for bound in ("ge", "le")
        )
        value = min(max(getattr(current, name) * math.exp(random.normal(0, 0.4)), low), high)
        varied[name] = round(value) if field.annotation is int else round(value, 3)
    return AnomalyParameters.model_validate(varied)


def benchmark_gain(alarms: Sequence[int], length: int, windows: Sequence[tuple[int, int]]) -> float:
    """The gain of alarms at these indices over no alarms.

    A window gains up to 2, less if it is found late; false alarms cost.

    Source: A. Lavin, S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms",
    2015.
    """
    first = min(math.floor(PROBATION * length), PROBATION * PROBATION_LIMIT)
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
        weight = -1.0
        if before:
            a, b = before[-1]
            weight = _sigmoid((i - b) / max(b - a, 1))
        lost += FALSE_POSITIVE * weight
    return sum(best) + len(windows) + lost


def _sigmoid(x: float) -> float:
    return -1.0 if x > 3 else 2 / (1 + math.exp(5 * x)) - 1
