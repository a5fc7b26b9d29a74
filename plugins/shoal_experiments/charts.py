"""ECharts options: effects with their intervals, and one effect over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

# Readable on light and on dark: ECharts cannot read the console's CSS variables.
MUTED, LINE = "#8a99a3", "rgba(138, 153, 163, 0.25)"
COLOURS = {"good": "#2f9e44", "bad": "#e03131", "neutral": "#1098ad"}

ROW_HEIGHT, AXIS_HEIGHT, LABEL_WIDTH = 36, 48, 170

State = Literal["good", "bad", "neutral"]


@dataclass(frozen=True, slots=True)
class EffectInterval:
    """One effect with its interval. An end is None where the data do not bound it."""

    label: str
    effect: float
    low: float | None
    high: float | None
    state: State = "neutral"


def effect_intervals(metrics: Sequence[dict[str, Any]]) -> list[EffectInterval]:
    """The intervals of a report's metrics, without guardrails.

    Guardrails are not shown: they have a bound of the harm, and no interval.
    """
    intervals = []
    for metric in metrics:
        for arm, row in metric["comparisons"].items():
            if metric["role"] == "guardrail" or row.get("effect") is None:
                continue
            low, high = row["interval"] or (None, None)
            is_good = (row["effect"] > 0) == (metric["better"] == "increase")
            state: State = "neutral" if not row["significant"] else "good" if is_good else "bad"
            label = f"{metric['metric']}: {arm}"
            intervals.append(EffectInterval(label, row["effect"], low, high, state))
    return intervals


def interval_chart(intervals: Sequence[EffectInterval], *, relative: bool) -> dict[str, Any]:
    """Each effect as a point on its interval, one below the other.

    Relative effects are in percent. An interval without a bound reaches the chart's
    edge.
    """
    scale = 100 if relative else 1
    values = [v for i in intervals for v in (i.low, i.high, i.effect, 0.0) if v is not None]
    low, high = (scale * end for end in _padded_range(values))
    lines = [
        {
            "type": "line",
            "name": interval.label,
            "data": [
                [low if interval.low is None else scale * interval.low, row],
                [high if interval.high is None else scale * interval.high, row],
            ],
            "symbol": "none",
            "silent": True,
            "lineStyle": {"width": 3, "color": COLOURS[interval.state], "cap": "round"},
        }
        for row, interval in enumerate(intervals)
    ]
    points = {
        "type": "scatter",
        "name": "effect",
        "symbolSize": 11,
        "z": 5,
        "data": [
            {
                "value": [scale * interval.effect, row],
                "itemStyle": {"color": COLOURS[interval.state]},
                "tooltip": {
                    "formatter": _tooltip(
                        interval.label, interval.effect, (interval.low, interval.high), relative
                    )
                },
            }
            for row, interval in enumerate(intervals)
        ],
        "markLine": _zero_line("xAxis"),
    }
    return {
        "aria": {"enabled": True, "label": {"description": "Effects with their intervals"}},
        "animation": False,
        "tooltip": {"trigger": "item"},
        "grid": {"left": LABEL_WIDTH + 20, "right": 30, "top": 8, "bottom": AXIS_HEIGHT - 8},
        "xAxis": _value_axis(relative) | {"min": low, "max": high},
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": [interval.label for interval in intervals],
            "axisLine": {"show": False},
            "axisTick": {"show": False},
            "axisLabel": {"color": MUTED, "width": LABEL_WIDTH, "overflow": "truncate"},
        },
        "series": [*lines, points],
    }


def interval_chart_height(intervals: Sequence[EffectInterval]) -> int:
    """Height in pixels."""
    return ROW_HEIGHT * len(intervals) + AXIS_HEIGHT


def timeline_chart(
    points: Sequence[dict[str, Any]], arm: str, *, relative: bool
) -> dict[str, Any] | None:
    """The effect of one arm by day, with its interval as a band.

    Returns:
        The options, or None when no day has an effect with a bounded interval.
    """
    rows = [(p["day"], p["comparisons"].get(arm, {})) for p in points]
    rows = [
        (day, row)
        for day, row in rows
        if row.get("effect") is not None and row["interval"] and None not in row["interval"]
    ]
    if not rows:
        return None
    scale = 100 if relative else 1
    ends = [(scale * row["interval"][0], scale * row["interval"][1]) for _, row in rows]
    low, high = _padded_range([0.0, *(end for pair in ends for end in pair)])
    days = [
        {
            "value": scale * row["effect"],
            "tooltip": {"formatter": _tooltip(day, row["effect"], row["interval"], relative)},
        }
        for day, row in rows
    ]
    effect = {
        "type": "line",
        "name": "effect",
        "symbol": "circle",
        "symbolSize": 8,
        "color": COLOURS["neutral"],
        "data": days,
        "markLine": _zero_line("yAxis"),
    }
    return {
        "aria": {"enabled": True, "label": {"description": f"The effect of {arm} over time"}},
        "animation": False,
        "tooltip": {"trigger": "item"},
        "grid": {"left": 70, "right": 30, "top": 12, "bottom": 30},
        "xAxis": {
            "type": "category",
            "boundaryGap": len(rows) == 1,
            "data": [day for day, _ in rows],
            "axisLabel": {"color": MUTED},
            "axisLine": {"show": False},
            "axisTick": {"show": False},
        },
        "yAxis": _value_axis(relative) | {"min": low, "max": high},
        "series": [*_band(ends), effect],
    }


def _band(ends: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """The area between the ends: an invisible line, and its distance stacked on it."""
    line = {
        "type": "line",
        "symbol": "none",
        "silent": True,
        "lineStyle": {"opacity": 0},
        "stack": "interval",
        "stackStrategy": "all",
    }
    area = {"color": COLOURS["neutral"], "opacity": 0.18}
    return [
        line | {"name": "lower", "data": [low for low, _ in ends]},
        line | {"name": "interval", "data": [high - low for low, high in ends], "areaStyle": area},
    ]


def _value_axis(relative: bool) -> dict[str, Any]:
    label = {"color": MUTED, "showMinLabel": False, "showMaxLabel": False}
    return {
        "type": "value",
        "axisLabel": label | ({"formatter": "{value} %"} if relative else {}),
        "splitLine": {"showMinLine": False, "showMaxLine": False, "lineStyle": {"color": LINE}},
    }


def _zero_line(axis: str) -> dict[str, Any]:
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"type": "solid", "color": MUTED, "width": 1.5},
        "data": [{axis: 0}],
    }


def _padded_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    padding = (high - low) * 0.08 or 1.0
    return low - padding, high + padding


def _tooltip(label: str, effect: float, interval: Sequence[float | None], relative: bool) -> str:
    """HTML, as ECharts takes it."""
    ends = ["no bound" if end is None else _number(end, relative) for end in interval]
    return f"{escape(label)}<br>{_number(effect, relative)}, from {ends[0]} to {ends[1]}"


def _number(value: float, relative: bool) -> str:
    return f"{100 * value:+.3g} %" if relative else f"{value:+.3g}"
