"""An experiment's results on the console's page."""

from __future__ import annotations

from html import escape
from typing import Any

from nicegui import ui

from shoal import PageContext

from . import charts

DECISION_STYLES = {"ship": "good", "do not ship": "bad", "invalid": "bad", "inconclusive": "off"}


def draw_results(page: PageContext, document: dict[str, Any], report: dict[str, Any]) -> None:
    """Draw a report.

    Args:
        page: Whom it is drawn for.
        document: The experiment, as the API returns it.
        report: Its results, as the API returns them.
    """
    design = document["design"]
    _draw_verdict(page, report["verdict"])
    _draw_health(page, report["health"])
    if not report["metrics"]:
        return
    relative = design["effect"] == "relative"
    _draw_effects(page, report["metrics"], relative)
    treatments = [v["name"] for v in design["variants"] if v["name"] != design["control"]]
    _draw_timeline(page, report["timeline"] or [], treatments, relative)


def pill(text: str, style: str = "") -> None:
    """A small label, with `good`, `warn`, `bad` or `off` as its style."""
    classes = f"sh-pill sh-{style}" if style else "sh-pill"
    ui.html(f'<span class="{classes}">{escape(text)}</span>', sanitize=False)


def _draw_verdict(page: PageContext, verdict: dict[str, Any]) -> None:
    with ui.element("div").classes("sh-card w-full").mark("verdict"):
        with ui.row().classes("items-center"):
            page.heading("Verdict")
            pill(verdict["decision"], DECISION_STYLES[verdict["decision"]])
        for reason in verdict["reasons"]:
            ui.label(reason)


def _draw_health(page: PageContext, health: dict[str, Any]) -> None:
    units, days, ratio = health["units_per_arm"], health["days"], health["sample_ratio"]
    with ui.element("div").classes("sh-card w-full").mark("health"):
        page.heading("Health")
        _draw_progress(
            f"{units['smallest']:,} of {units['planned']:,} units in the smallest arm",
            units["smallest"] / max(units["planned"], 1),
        )
        _draw_progress(
            f"day {days['elapsed']:.1f} of {days['planned']:g}",
            days["elapsed"] / days["planned"] if days["planned"] else 1.0,
        )
        counts = ", ".join(f"{arm} {n:,}" for arm, n in health["units"].items())
        mismatch = ": mismatch!" if ratio["mismatch"] else "."
        lines = [f"Units: {counts}. Sample ratio p = {ratio['p_value']:.3g}{mismatch}"]
        if crossovers := health["crossovers"]["units"]:
            lines.append(f"{crossovers:,} units in more than one variant, excluded.")
        for name, arms in health["guardrails"].items():
            for arm, row in arms.items():
                shown = row["harm_shown"]
                state = "harm is shown!" if shown else row.get("waiting", "no harm shown")
                lines.append(f"Guardrail {name}, {arm}: {state}")
        for arm, levels in health["service"].items():
            if levels["requests"]:
                lines.append(
                    f"{arm}: {levels['requests']:,.0f} requests, "
                    f"errors {100 * (levels['error_rate'] or 0):.2f} %, "
                    f"p95 {levels['latency_p95'] or 0:.1f} ms"
                )
        for line in lines:
            ui.label(line).classes("sh-muted")


def _draw_progress(text: str, share: float) -> None:
    ui.label(text).classes("sh-muted")
    bar = ui.linear_progress(min(1.0, share), show_value=False, size="6px").props("rounded")
    bar.props["aria-label"] = text


def _draw_effects(page: PageContext, metrics: list[dict[str, Any]], relative: bool) -> None:
    intervals = charts.effect_intervals(metrics)
    with ui.element("div").classes("sh-card w-full").mark("results"):
        scale = "relative to the control" if relative else "absolute"
        page.heading(f"Effects, {scale}")
        if intervals:
            options = charts.interval_chart(intervals, relative=relative)
            height = charts.interval_chart_height(intervals)
            chart = ui.echart(options).classes("w-full").style(f"height: {height}px")
            chart.mark("intervals")
        for metric in metrics:
            _draw_metric(page, metric, relative)


def _draw_timeline(
    page: PageContext, points: list[dict[str, Any]], treatments: list[str], relative: bool
) -> None:
    found = [(arm, charts.timeline_chart(points, arm, relative=relative)) for arm in treatments]
    if not any(options for _, options in found):
        return
    with ui.element("div").classes("sh-card w-full").mark("timeline"):
        page.heading("Results over time")
        for arm, options in found:
            ui.label(arm).classes("sh-muted")
            if options:
                ui.echart(options).classes("w-full").style("height: 240px")
            else:
                ui.label("No bounded interval yet.").classes("sh-muted")


def _draw_metric(page: PageContext, metric: dict[str, Any], relative: bool) -> None:
    page.heading(f"{metric['metric']} ({metric['role']})", 3).style("margin-top: 12px")
    is_share = metric["kind"] in ("proportion", "retention")
    rows = []
    for arm, values in metric["arms"].items():
        comparison = metric["comparisons"].get(arm, {})
        interval = comparison.get("interval")
        belief = (metric["beliefs"] or {}).get(arm, {})
        rows.append(
            {
                "arm": arm,
                "n": f"{values['n']:,}",
                "value": _number(values["value"], is_share),
                "effect": _number(comparison.get("effect", comparison.get("harm")), relative),
                "interval": " to ".join(_number(end, relative) for end in interval)
                if interval
                else "–",
                "p": _number(comparison.get("p_value_adjusted", comparison.get("p_value"))),
                "result": _result(comparison),
                "best": _number(belief.get("best"), percent=True),
            }
        )
    headings = {
        "arm": "Arm",
        "n": "Units",
        "value": "Value",
        "effect": "Harm" if metric["role"] == "guardrail" else "Effect",
        "interval": "Interval",
        "p": "p",
        "result": "Result",
        "best": "Chance to be best",
    }
    columns = [
        {"name": name, "label": label, "field": name, "align": "left"}
        for name, label in headings.items()
    ]
    ui.table(rows=rows, columns=columns).classes("w-full").props("flat dense")


def _result(comparison: dict[str, Any]) -> str:
    """What a comparison says; a dash for the control, which has none."""
    if not comparison:
        return "–"
    if undefined := comparison.get("undefined"):
        return str(undefined)
    if "kept" in comparison:
        return "harm ruled out" if comparison["kept"] else "harm not ruled out"
    return "significant" if comparison["significant"] else "not significant"


def _number(value: float | None, percent: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if percent else f"{value:.4g}"
