"""Fitting of seasons and forests to a tenant's history."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from . import seasonal
from .multivariate import CombinationForest, column_name
from .points import series_id
from .recent_points import SeriesPoints
from .seasonal_model import Method
from .stored_series import StoredSeries

MAX_METRICS = 20  # in one forest
MIN_ROWS = 200
MAX_ROWS = 20_000
MIN_COMMON = 0.8  # share of its times that a metric must have in common


def fit_seasons(
    rows: list[dict[str, Any]], method: str, holidays: str | None
) -> list[dict[str, Any]]:
    """Fit a season to each series, by Ray Data on all cores.

    Args:
        rows: `series`, `times` and `values` of each.
        method: `stl` or `prophet`.
        holidays: A country's code, for Prophet.

    Returns:
        `series`, `model` and `fault` of each, as `fit_season_batch` gives them.
    """
    import ray.data

    blocks = min(max(len(rows) // 8, 1), 64)
    data = ray.data.from_items(rows, override_num_blocks=blocks)
    work: Any = fit_season_batch
    return data.map_batches(
        work, fn_kwargs={"method": method, "holidays": holidays}, batch_size=8
    ).take_all()


def fit_season_batch(
    batch: dict[str, Any], method: Method, holidays: str | None
) -> dict[str, list[str]]:
    """Fit a season to each series of a batch.

    Args:
        batch: Columns series, times, values.
        method: `stl` or `prophet`.
        holidays: A country's code, for Prophet.

    Returns:
        Columns series, model (JSON, or empty), fault (empty, `too_short` or `failed`).
    """
    models, faults = [], []
    for times, values in zip(batch["times"], batch["values"], strict=True):
        model, fault = "", ""
        try:
            season = seasonal.fit(times, values, method, holidays=holidays)
            model = orjson.dumps(season.to_dict()).decode()
        except seasonal.TooShort:
            fault = "too_short"
        except Exception:  # one series must not fail the others
            fault = "failed"
        models.append(model)
        faults.append(fault)
    return {"series": list(batch["series"]), "model": models, "fault": faults}


def fit_forests(
    history: Mapping[str, SeriesPoints], infos: Mapping[str, StoredSeries]
) -> dict[str, CombinationForest]:
    """Fit a forest to each group of metrics that have the same labels and common times.

    Args:
        history: Points by series id.
        infos: The series by id.

    Returns:
        Forests by the id of the group.
    """
    groups: dict[str, dict[str, SeriesPoints]] = {}
    for name, points in history.items():
        if name in infos and len(points) >= MIN_ROWS and points.values.std() > 0:
            info = infos[name]
            group = groups.setdefault(series_id("", info.labels), {})
            group[column_name(info.metric, info.kind)] = points
    forests = {}
    for group_id, metrics in groups.items():
        longest = sorted(metrics, key=lambda m: (-len(metrics[m]), m))[:MAX_METRICS]
        times = metrics[longest[0]].times
        common = [m for m in longest if np.isin(times, metrics[m].times).mean() > MIN_COMMON]
        if len(common) < 2:
            continue
        for metric in common:
            times = times[np.isin(times, metrics[metric].times)]
        columns = [metrics[m].values[np.searchsorted(metrics[m].times, times)] for m in common]
        rows = np.column_stack(columns)[-MAX_ROWS:]
        if len(rows) >= MIN_ROWS:
            forests[group_id] = CombinationForest(common).fit(rows)
    return forests
