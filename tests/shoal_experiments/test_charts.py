"""Charts as ECharts options."""

from __future__ import annotations

from typing import Any

import pytest

from shoal_experiments.charts import (
    COLOURS,
    EffectInterval,
    effect_intervals,
    interval_chart,
    timeline_chart,
)

POINTS = [
    {"day": f"2026-01-0{d}", "comparisons": {"b": {"effect": 0.1 / d, "interval": [-0.1, 0.3]}}}
    for d in (1, 2, 3)
]


def metric(role: str, effect: float | None, significant: bool = True) -> dict[str, Any]:
    row = {"effect": effect, "interval": [-1.0, None], "significant": significant}
    return {"metric": "m", "role": role, "better": "increase", "comparisons": {"b": row}}


@pytest.mark.parametrize(
    ("effect", "significant", "state"),
    [(0.1, True, "good"), (-0.1, True, "bad"), (0.1, False, "neutral")],
)
def test_a_significant_effect_is_good_or_bad(effect: float, significant: bool, state: str) -> None:
    [interval] = effect_intervals([metric("primary", effect, significant)])
    assert interval == EffectInterval("m: b", effect, -1.0, None, state)  # type: ignore[arg-type]


def test_guardrails_and_undefined_effects_have_no_interval() -> None:
    assert effect_intervals([metric("guardrail", 0.1), metric("primary", None)]) == []


def test_each_effect_is_a_point_on_its_interval() -> None:
    intervals = [EffectInterval("m: b", 0.1, -0.05, 0.25), EffectInterval("m: c", 0.2, 0.1, 0.3)]
    options = interval_chart(intervals, relative=True)
    *lines, points = options["series"]
    assert options["yAxis"]["data"] == ["m: b", "m: c"]
    assert [line["data"] for line in lines] == [[[-5, 0], [25, 0]], [[10, 1], [30, 1]]]
    assert [point["value"] for point in points["data"]] == [[10, 0], [20, 1]]
    assert points["markLine"]["data"] == [{"xAxis": 0}]
    assert options["xAxis"]["axisLabel"]["formatter"] == "{value} %"


def test_an_unbounded_interval_reaches_the_edge() -> None:
    options = interval_chart([EffectInterval("open", 0.2, 0.1, None, "good")], relative=False)
    line, points = options["series"]
    assert line["data"] == [[0.1, 0], [options["xAxis"]["max"], 0]]
    assert line["lineStyle"]["color"] == COLOURS["good"]
    assert "from +0.1 to no bound" in points["data"][0]["tooltip"]["formatter"]


def test_names_are_escaped_in_tooltips() -> None:
    options = interval_chart([EffectInterval("<script>", 0.1, 0.0, 0.2)], relative=False)
    assert "<script>" not in options["series"][-1]["data"][0]["tooltip"]["formatter"]


def test_intervals_without_width_are_drawn() -> None:
    axis = interval_chart([EffectInterval("flat", 0.0, 0.0, 0.0)], relative=False)["xAxis"]
    assert (axis["min"], axis["max"]) == (-1, 1)


@pytest.mark.parametrize("days", [1, 3])
def test_an_effect_over_time_has_a_band(days: int) -> None:
    options = timeline_chart(POINTS[:days], "b", relative=False)
    assert options is not None
    lower, band, effect = options["series"]
    assert options["xAxis"]["data"] == [p["day"] for p in POINTS[:days]]
    assert lower["data"] == [-0.1] * days and band["data"] == [0.4] * days
    assert [point["value"] for point in effect["data"]] == [0.1 / d for d in range(1, days + 1)]
    assert lower["stack"] == band["stack"] and band["areaStyle"]


@pytest.mark.parametrize(("points", "arm"), [([], "b"), (POINTS, "nobody")])
def test_without_bounded_intervals_there_is_no_timeline(
    points: list[dict[str, Any]], arm: str
) -> None:
    assert timeline_chart(points, arm, relative=False) is None
