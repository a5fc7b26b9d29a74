"""The console's page: series with what was expected of them, alerts to act on,
maintenance, and where it burns.
"""

from collections import Counter
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from shoal import PageContext, ShoalError

from .detector import DEFAULT_THRESHOLD

SPANS = {"6 hours": 6, "1 day": 24, "3 days": 72, "7 days": 168, "30 days": 720, "90 days": 2160}
COLOURS = {"P1": "negative", "P2": "warning", "P3": "info"}
DAYS = 14


async def page(context: PageContext) -> None:
    """Draws the page."""
    await _Page(context).draw()


class _Page:
    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._api = context.client.anomalies
        self._series: dict[str, str] = {}
        self._may_act = context.role != "reader"

    async def draw(self) -> None:
        listed = await self._ask(self._api.list_metrics())
        self._series = {s["series"]: _name(s) for s in (listed or {}).get("series", [])}
        with ui.column().classes("w-full gap-6"):
            self._alerts = ui.column().classes("w-full").mark("alerts")
            await self._draw_alerts()
            await self._draw_chooser()
            self._chart = ui.column().classes("w-full").mark("series")
            await self._draw_series()
            self._suggestion = ui.column().classes("w-full").mark("suggestion")
            await self._draw_suggestion()
            self._heat = ui.column().classes("w-full").mark("heat")
            await self._draw_heat()
            self._windows = ui.column().classes("w-full").mark("maintenance")
            await self._draw_windows()

    async def _ask(self, work: Awaitable[Any]) -> Any:
        """The answer; None after a refusal, which is shown."""
        try:
            return await work
        except ShoalError as error:
            said = (
                "; ".join(f"{e.get('location')}: {e.get('message')}" for e in error.errors)
                or error.detail
            )
            ui.notify(said, type="negative", multi_line=True, timeout=8000)
            return None

    # Alerts

    async def _draw_alerts(self) -> None:
        found = await self._ask(self._api.list_alerts(limit=50))
        alerts = (found or {}).get("alerts", [])
        live = [a for a in alerts if a["state"] != "resolved"]
        over = [a for a in alerts if a["state"] == "resolved"]
        self._alerts.clear()
        with self._alerts:
            ui.label(f"Alerts: {len(live)} open").classes("sh-h2")
            if not live:
                ui.label("Nothing is wrong.").classes("sh-empty")
            for alert in sorted(live, key=lambda a: (a["priority"], a["opened"])):
                self._draw_alert(alert)
            if over:
                with ui.expansion(f"Resolved ({len(over)})").classes("w-full"):
                    for alert in over:
                        self._draw_alert(alert)

    def _draw_alert(self, alert: dict[str, Any]) -> None:
        with (
            ui.element("div").classes("sh-card w-full").mark("alert"),
            ui.row().classes("w-full items-center no-wrap"),
        ):
            ui.badge(alert["priority"], color=COLOURS[alert["priority"]])
            with ui.column().classes("grow min-w-0 gap-0"):
                ui.label(alert["sentence"])
                ui.label(_standing(alert)).classes("sh-muted text-sm")
            if self._may_act and alert["state"] == "open":
                ui.button(
                    "Acknowledge", on_click=lambda: self._act("acknowledge_alert", alert)
                ).props("flat dense")
            if self._may_act and alert["state"] != "resolved":
                ui.button("Resolve", on_click=lambda: self._act("resolve_alert", alert)).props(
                    "flat dense"
                )

    async def _act(self, operation: str, alert: dict[str, Any]) -> None:
        await self._ask(getattr(self._api, operation)(id=alert["id"]))
        await self._draw_alerts()

    # A series

    async def _draw_chooser(self) -> None:
        found = await self._ask(self._api.list_anomalies(limit=1))
        latest = (found or {}).get("anomalies", [])
        first = latest[0]["series"] if latest else next(iter(self._series), None)
        with ui.row().classes("w-full items-end"):
            ui.label("Series").classes("sh-h2 grow")
            value = first if first in self._series else None
            self._which = (
                ui.select(
                    self._series,
                    value=value,
                    label="Series",
                    with_input=True,
                    on_change=self._draw_series,
                )
                .classes("w-96")
                .mark("which")
            )
            self._span = ui.select(
                list(SPANS), value="7 days", label="Time", on_change=self._draw_series
            ).mark("span")

    async def _draw_series(self) -> None:
        if not self._which.value:
            self._chart.clear()
            with self._chart:
                ui.label("No series yet: send points to POST /anomalies/metrics.").classes(
                    "sh-empty"
                )
            return
        start = datetime.now(UTC) - timedelta(hours=SPANS[self._span.value])
        series = await self._ask(self._api.get_series(series=self._which.value, **{"from": start}))
        found = (
            await self._ask(
                self._api.list_anomalies(metric=series["metric"], limit=200, **{"from": start})
            )
            if series
            else None
        )
        self._chart.clear()
        if series is None:
            return
        why = [a for a in (found or {}).get("anomalies", []) if a["series"] == series["series"]]
        with self._chart:
            ui.echart(chart(series)).classes("w-full h-80").mark("chart")
            for anomaly in why[:10]:
                with ui.row().classes("w-full items-center no-wrap").mark("anomaly"):
                    ui.label(_short(anomaly["time"])).classes("sh-muted text-sm whitespace-nowrap")
                    ui.label(anomaly["sentence"]).classes("grow")
                    if anomaly["feedback"]:
                        ui.label(
                            "an anomaly" if anomaly["feedback"]["anomaly"] else "not an anomaly"
                        ).classes("sh-muted")
                    elif self._may_act:
                        ui.button("Not an anomaly", on_click=lambda a=anomaly: self._deny(a)).props(
                            "flat dense"
                        )

    async def _deny(self, anomaly: dict[str, Any]) -> None:
        await self._ask(self._api.give_feedback(id=anomaly["id"], anomaly=False))
        await self._draw_series()

    # What feedback asks for

    async def _draw_suggestion(self) -> None:
        found = ((await self._ask(self._api.get_suggestion())) or {}).get("suggestion")
        self._suggestion.clear()
        if not found or not found["parameters"]:
            return
        asked = ", ".join(f"{name} {value:g}" for name, value in found["parameters"].items())
        with self._suggestion, ui.row().classes("w-full items-center no-wrap"):
            ui.label(
                f"By what people said of {found['windows'] + found['denied']} anomalies, these parameters serve better ({found['score']:g} "
                f"instead of {found['current']:g} of 100): {asked}."
            ).classes("grow")
            if self._may_act:
                ui.button("Use them", on_click=lambda: self._adopt(found["parameters"])).props(
                    "flat dense"
                )

    async def _adopt(self, parameters: dict[str, Any]) -> None:
        put = self._context.client.platform.put_parameters
        if await self._ask(put(capability="anomalies", body=parameters)) is not None:
            ui.notify("In force from the next point on.", type="positive")
            self._suggestion.clear()

    # Where it burns

    async def _draw_heat(self) -> None:
        standing = await self._standing()
        start = datetime.now(UTC) - timedelta(days=DAYS)
        found = (
            None
            if standing
            else await self._ask(self._api.list_anomalies(limit=1000, **{"from": start}))
        )
        self._heat.clear()
        with self._heat:
            if standing:
                ui.label("Open alerts by tenant and priority").classes("sh-h2")
                ui.echart(tenants_heat(standing)).classes("w-full").style(
                    f"height: {120 + 28 * len(standing)}px"
                ).mark("heatmap")
            elif found:
                ui.label(f"Anomalies by metric, last {DAYS} days").classes("sh-h2")
                options, rows = metrics_heat(found["anomalies"], datetime.now(UTC))
                ui.echart(options).classes("w-full").style(f"height: {120 + 28 * rows}px").mark(
                    "heatmap"
                )

    async def _standing(self) -> dict[str, dict[str, int]]:
        """Of every tenant, the open alerts by priority, for the operator: from the last
        run of the job that sees them all.
        """
        if self._context.role != "admin":
            return {}
        try:
            runs = (await self._context.client.platform.list_runs(limit=200))["runs"]
        except ShoalError:
            return {}
        for run in runs:
            if run["job"] == "anomalies.keep" and run["tenant"] is None and run["result"]:
                return dict(run["result"]["tenants"])
        return {}

    # Maintenance

    async def _draw_windows(self) -> None:
        found = await self._ask(self._api.list_maintenance())
        self._windows.clear()
        with self._windows:
            ui.label("Maintenance").classes("sh-h2")
            for name, window in (found or {}).get("maintenance", {}).items():
                with ui.row().classes("w-full items-center").mark("window"):
                    ui.badge(
                        "now" if window["active"] else "planned",
                        color="warning" if window["active"] else "grey",
                    )
                    repeat = (
                        f", again on {', '.join(window['repeat']['days'])} ({window['repeat']['timezone']})"
                        if window["repeat"]
                        else ""
                    )
                    text = f"{name}: {_short(window['from'])} to {_short(window['to'])}{repeat}; metrics {window['match']['metric']}"
                    ui.label(f"{text}. {window['reason']}").classes("grow")
                    if self._may_act:
                        ui.button("Remove", on_click=lambda n=name: self._remove(n)).props(
                            "flat dense"
                        )
            if self._may_act:
                with ui.row().classes("items-end"):
                    name = ui.input("Name", value="maintenance").mark("window-name")
                    metric = ui.input("Metrics", value="*").mark("window-metric")
                    hours = ui.number("Hours from now", value=1, min=0.1, max=168)

                    async def add() -> None:
                        now = datetime.now(UTC)
                        window = {
                            "from": now,
                            "to": now + timedelta(hours=float(hours.value or 1)),
                            "match": {"metric": metric.value},
                        }
                        body = {
                            k: v.isoformat() if isinstance(v, datetime) else v
                            for k, v in window.items()
                        }
                        await self._ask(self._api.put_maintenance(id=name.value, body=body))
                        await self._draw_windows()

                    ui.button("Hold alerts back", on_click=add).props("unelevated").mark("hold")

    async def _remove(self, name: str) -> None:
        await self._ask(self._api.delete_maintenance(id=name))
        await self._draw_windows()


def chart(series: dict[str, Any]) -> dict[str, Any]:
    """ECharts options: the values, the band that was expected, and the points that were
    flagged.
    """
    times, values = series["times"], series["values"]
    flagged = [
        [t, v]
        for t, v, s in zip(times, values, series["scores"], strict=True)
        if s is not None and s >= DEFAULT_THRESHOLD
    ]
    lines: list[dict[str, Any]] = []
    if any(x is not None for x in series["lower"]):
        width = [
            [t, None if low is None else high - low]
            for t, low, high in zip(times, series["lower"], series["upper"], strict=True)
        ]
        plain = {
            "type": "line",
            "symbol": "none",
            "lineStyle": {"opacity": 0},
            "stack": "band",
            "stackStrategy": "all",
        }
        lines += [
            {**plain, "name": "lower", "data": [list(p) for p in zip(times, series["lower"], strict=True)], "tooltip": {"show": False}},
            {**plain, "name": "band", "data": width, "areaStyle": {"opacity": 0.18}, "tooltip": {"show": False}},
            {"type": "line", "name": "expected", "symbol": "none", "lineStyle": {"type": "dashed", "width": 1},
             "data": [list(p) for p in zip(times, series["expected"], strict=True)]},
        ]  # fmt: skip
    lines += [
        {"type": "line", "name": series["metric"], "symbol": "none", "data": [list(p) for p in zip(times, values, strict=True)],
         "lineStyle": {"width": 1.5}},
        {"type": "scatter", "name": "anomaly", "data": flagged, "symbolSize": 9, "itemStyle": {"color": "#d32f2f"}, "z": 5},
    ]  # fmt: skip
    return {
        "tooltip": {"trigger": "axis"}, "xAxis": {"type": "time"}, "yAxis": {"type": "value", "scale": True},
        "dataZoom": [{"type": "inside"}, {"type": "slider", "height": 18, "bottom": 6}],
        "grid": {"left": 60, "right": 20, "top": 20, "bottom": 60}, "series": lines, "animation": False,
    }  # fmt: skip


def tenants_heat(standing: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Tenants down, priorities across; the worst first."""
    names = sorted(standing, key=lambda t: [-standing[t].get(p, 0) for p in COLOURS])[:100]
    cells = [
        [x, y, standing[name].get(p, 0)]
        for y, name in enumerate(names)
        for x, p in enumerate(COLOURS)
    ]
    return _heat(list(COLOURS), names, cells)


def metrics_heat(anomalies: list[dict[str, Any]], now: datetime) -> tuple[dict[str, Any], int]:
    """Metrics down, the last days across; with how many metrics there are."""
    days = [f"{now - timedelta(days=DAYS - 1 - i):%d %b}" for i in range(DAYS)]
    counts = Counter((a["metric"], f"{datetime.fromisoformat(a['time']):%d %b}") for a in anomalies)
    names = sorted({metric for metric, _ in counts})
    cells = [
        [x, y, counts[name, day]] for y, name in enumerate(names) for x, day in enumerate(days)
    ]
    return _heat(days, names, cells), len(names)


def _heat(across: list[str], down: list[str], cells: list[list[Any]]) -> dict[str, Any]:
    most = max((c[2] for c in cells), default=0)
    return {
        "tooltip": {}, "xAxis": {"type": "category", "data": across, "position": "top"},
        "yAxis": {"type": "category", "data": down, "inverse": True},
        "visualMap": {"min": 0, "max": max(most, 1), "show": False, "inRange": {"color": ["#eceff1", "#ffb74d", "#c62828"]}},
        "grid": {"left": 160, "right": 20, "top": 40, "bottom": 20}, "animation": False,
        "series": [{"type": "heatmap", "data": cells, "label": {"show": len(across) * len(down) <= 400}}],
    }  # fmt: skip


def _standing(alert: dict[str, Any]) -> str:
    parts = [f"{alert['state']} since {_short(alert['opened'])}"]
    if alert["acknowledged_by"]:
        parts.append(f"acknowledged by {alert['acknowledged_by']}")
    if alert["suppressed_by"]:
        parts.append(f"held back by maintenance: {', '.join(alert['suppressed_by'])}")
    if alert["inhibited_by"]:
        parts.append("silent, since something graver is open")
    if alert["reopened"]:
        parts.append(f"opened again {alert['reopened']} times")
    metrics = sorted({m["metric"] for m in alert["members"]})
    return "; ".join([*parts, f"metrics: {', '.join(metrics)}"])


def _name(series: dict[str, Any]) -> str:
    labels = ", ".join(f"{k}={v}" for k, v in series["labels"].items())
    return f"{series['metric']} ({labels})" if labels else str(series["metric"])


def _short(time: str | None) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%d %b %H:%M}" if time else ""
