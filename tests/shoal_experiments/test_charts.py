"""Pictures of intervals."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from shoal_experiments.charts import Bar, growth, intervals


def test_intervals_are_well_formed_and_escape_names() -> None:
    text = intervals(
        [Bar("<script>", 0.1, -0.05, 0.25), Bar("open", 0.2, 0.1, None, "good")], relative=True
    )
    root = ET.fromstring(text)
    assert (
        len(root.findall(".//g[@class='interval']")) == 2
        and "<script>" not in text
        and "no bound" in text
    )


def test_growth_needs_intervals_and_draws_each_day() -> None:
    points = [
        {"day": f"2026-01-0{d}", "comparisons": {"b": {"effect": 0.1 / d, "interval": [-0.1, 0.3]}}}
        for d in (1, 2, 3)
    ]
    root = ET.fromstring(growth(points, "b", relative=False))
    assert len(root.findall(".//circle[@class='day']")) == 3
    assert growth(points, "nobody", relative=False) == ""
    assert ET.fromstring(growth(points[:1], "b", relative=False)) is not None


def test_nothing_to_draw() -> None:
    assert intervals([], relative=False) == ""
    assert "svg" in intervals([Bar("flat", 0.0, 0.0, 0.0)], relative=False)
