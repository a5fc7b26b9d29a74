"""ECharts options for the console's page."""

from collections import Counter
from datetime import datetime, timedelta, tzinfo
from typing import Any

from .alarm_policy import DEFAULT_THRESHOLD

PRIORITIES = ("P1", "P2", "P3")
DAYS = 14
"""Days shown by the heat map of metrics."""
MAX_TENANTS = 100
MAX_LABELLED_CELLS = 400
# Readable on light and on dark: ECharts cannot read the console's CSS variables.
MUTED, LINE, ACCENT, ANOMALY = "#8a99a3", "rgba(138, 153, 163, 0.25)", "#1098ad", "#e03131"
HEAT = ["rgba(138, 153, 163, 0.12)", "#f59f00", "#e03131"]
AXIS = {
    "axisLabel": {"color": MUTED},
    "axisLine": {"lineStyle": {"color": LINE}},
    "splitLine": {"lineStyle": {"color": LINE}},
}
HIDDEN_LINE = {
    "type": "line",
    "symbol": "none",
    "lineStyle": {"opacity": 0},
    "stack": "band",
    "stackStrategy": "all",
    "tooltip": {"show": False},
}


def series_chart(series: dict[str, Any]) -> dict[str, Any]:
    """A series with its expected band and its anomalies.

    Args:
        series: The answer of `GET /anomalies/series`.
    """
    times, values = series["times"], series["values"]
    anomalies = [
        [time, value]
        for time, value, score in zip(times, values, series["scores"], strict=True)
        if score is not None and score >= DEFAULT_THRESHOLD
    ]
    return {
        "aria": {"enabled": True, "label": {"description": f"Values of {series['metric']}"}},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "time", **AXIS},
        "yAxis": {"type": "value", "scale": True, **AXIS},
        "dataZoom": [{"type": "inside"}, {"type": "slider", "height": 18, "bottom": 6}],
        "grid": {"left": 60, "right": 20, "top": 20, "bottom": 60},
        "animation": False,
        "series": [
            *_band_lines(series),
            {
                "type": "line",
                "name": series["metric"],
                "symbol": "none",
                "data": _pairs(times, values),
                "lineStyle": {"width": 1.5, "color": ACCENT},
            },
            {
                "type": "scatter",
                "name": "anomaly",
                "data": anomalies,
                "symbolSize": 9,
                "itemStyle": {"color": ANOMALY},
                "z": 5,
            },
        ],
    }


def _band_lines(series: dict[str, Any]) -> list[dict[str, Any]]:
    """The expected values, and the band as an area stacked on its lower limit."""
    times, lower, upper = series["times"], series["lower"], series["upper"]
    if all(limit is None for limit in lower):
        return []
    width = [None if low is None else high - low for low, high in zip(lower, upper, strict=True)]
    return [
        {**HIDDEN_LINE, "name": "lower", "data": _pairs(times, lower)},
        {
            **HIDDEN_LINE,
            "name": "band",
            "data": _pairs(times, width),
            "areaStyle": {"opacity": 0.18, "color": ACCENT},
        },
        {
            "type": "line",
            "name": "expected",
            "symbol": "none",
            "lineStyle": {"type": "dashed", "width": 1, "color": MUTED},
            "data": _pairs(times, series["expected"]),
        },
    ]


def _pairs(times: list[Any], values: list[Any]) -> list[list[Any]]:
    return [[time, value] for time, value in zip(times, values, strict=True)]


def alerts_heat_map(open_alerts: dict[str, dict[str, int]]) -> tuple[dict[str, Any], int]:
    """Open alerts by tenant (rows, the most severe first) and priority (columns).

    Args:
        open_alerts: The number of open alerts, by tenant and priority.

    Returns:
        The options, and the number of rows.
    """

    def severity(tenant: str) -> list[int]:
        return [-open_alerts[tenant].get(priority, 0) for priority in PRIORITIES]

    tenants = sorted(open_alerts, key=severity)[:MAX_TENANTS]
    cells = [
        [x, y, open_alerts[tenant].get(priority, 0)]
        for y, tenant in enumerate(tenants)
        for x, priority in enumerate(PRIORITIES)
    ]
    return _heat_map(list(PRIORITIES), tenants, cells), len(tenants)


def anomalies_heat_map(
    anomalies: list[dict[str, Any]], now: datetime, zone: tzinfo
) -> tuple[dict[str, Any], int]:
    """Anomalies by metric (rows) and day (columns, the last `DAYS`).

    Returns:
        The options, and the number of rows.
    """
    today = now.astimezone(zone).date()
    days = [f"{today - timedelta(days=DAYS - 1 - i):%d %b}" for i in range(DAYS)]
    times = [datetime.fromisoformat(a["time"]).astimezone(zone) for a in anomalies]
    counts = Counter(
        (a["metric"], f"{time:%d %b}") for a, time in zip(anomalies, times, strict=True)
    )
    metrics = sorted({metric for metric, _ in counts})
    cells = [
        [x, y, counts[metric, day]]
        for y, metric in enumerate(metrics)
        for x, day in enumerate(days)
    ]
    return _heat_map(days, metrics, cells), len(metrics)


def _heat_map(columns: list[str], rows: list[str], cells: list[list[Any]]) -> dict[str, Any]:
    largest = max((count for _, _, count in cells), default=0)
    drawn = [{"value": cell, "label": {"show": cell[2] > 0}} for cell in cells]
    return {
        "aria": {"enabled": True, "label": {"description": "Counts by row and column"}},
        "tooltip": {},
        "xAxis": {"type": "category", "data": columns, "position": "top", **AXIS},
        "yAxis": {"type": "category", "data": rows, "inverse": True, **AXIS},
        "visualMap": {
            "min": 0,
            "max": max(largest, 1),
            "show": False,
            "inRange": {"color": HEAT},
        },
        "grid": {"left": 160, "right": 20, "top": 40, "bottom": 20},
        "animation": False,
        "series": [
            {
                "type": "heatmap",
                "data": drawn if len(cells) <= MAX_LABELLED_CELLS else cells,
                "label": {"show": False, "color": "#16232c"},
            }
        ],
    }
