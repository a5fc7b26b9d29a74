"""The console's page: alerts, series, suggestion, heat map and maintenance windows."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from shoal import PageContext, ShoalError

from .charts import DAYS, alerts_heat_map, anomalies_heat_map, series_chart

SPANS = {"6 hours": 6, "1 day": 24, "3 days": 72, "7 days": 168, "30 days": 720, "90 days": 2160}
COLOURS = {"P1": "negative", "P2": "warning", "P3": "info"}
MAX_EXPLANATIONS = 10
"""Anomalies listed below the chart of a series."""


async def draw_page(context: PageContext) -> None:
    """Draw the page."""
    await _Page(context).draw()


class _Page:
    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._api = context.client.anomalies
        self._series: dict[str, str] = {}
        self._may_edit = context.may("write:tenant")

    async def draw(self) -> None:
        listed = await self._request(self._api.list_metrics())
        self._series = {s["series"]: _series_name(s) for s in (listed or {}).get("series", [])}
        with ui.column().classes("w-full gap-6"):
            self._alerts = ui.column().classes("w-full").mark("alerts")
            await self._draw_alerts()
            await self._draw_series_select()
            self._chart = ui.column().classes("w-full").mark("series")
            await self._draw_series()
            self._suggestion = ui.column().classes("w-full").mark("suggestion")
            await self._draw_suggestion()
            self._heat_map = ui.column().classes("w-full").mark("heat")
            await self._draw_heat_map()
            self._windows = ui.column().classes("w-full").mark("maintenance")
            await self._draw_maintenance()

    async def _request(self, call: Awaitable[Any]) -> Any:
        """Await an answer. An error is shown to the user and gives None."""
        try:
            return await call
        except ShoalError as error:
            details = "; ".join(f"{e.get('location')}: {e.get('message')}" for e in error.errors)
            ui.notify(details or error.detail, type="negative", multi_line=True, timeout=8000)
            return None

    # Alerts

    async def _draw_alerts(self) -> None:
        found = await self._request(self._api.list_alerts(limit=50))
        alerts = (found or {}).get("alerts", [])
        unresolved = [a for a in alerts if a["state"] != "resolved"]
        resolved = [a for a in alerts if a["state"] == "resolved"]
        self._alerts.clear()
        with self._alerts:
            ui.label(f"Alerts: {len(unresolved)} open").classes("sh-h2")
            if not unresolved:
                ui.label("No open alerts.").classes("sh-empty")
            for alert in sorted(unresolved, key=lambda a: (a["priority"], a["opened"])):
                self._draw_alert(alert)
            if resolved:
                with ui.expansion(f"Resolved ({len(resolved)})").classes("w-full"):
                    for alert in resolved:
                        self._draw_alert(alert)

    def _draw_alert(self, alert: dict[str, Any]) -> None:
        with (
            ui.element("div").classes("sh-card w-full").mark("alert"),
            ui.row().classes("w-full items-center no-wrap"),
        ):
            ui.badge(alert["priority"], color=COLOURS[alert["priority"]])
            with ui.column().classes("grow min-w-0 gap-0"):
                ui.label(alert["sentence"])
                ui.label(_alert_status(alert)).classes("sh-muted text-sm")
            if self._may_edit and alert["state"] == "open":
                _button("Acknowledge", lambda: self._change_alert("acknowledge_alert", alert))
            if self._may_edit and alert["state"] != "resolved":
                _button("Resolve", lambda: self._change_alert("resolve_alert", alert))

    async def _change_alert(self, operation: str, alert: dict[str, Any]) -> None:
        await self._request(getattr(self._api, operation)(id=alert["id"]))
        await self._draw_alerts()

    # A series

    async def _draw_series_select(self) -> None:
        found = await self._request(self._api.list_anomalies(limit=1))
        latest = (found or {}).get("anomalies", [])
        first = latest[0]["series"] if latest else next(iter(self._series), None)
        with ui.row().classes("w-full items-end"):
            ui.label("Series").classes("sh-h2 grow")
            self._selected = ui.select(
                self._series,
                value=first if first in self._series else None,
                label="Series",
                with_input=True,
                on_change=self._draw_series,
            )
            self._selected.classes("w-96").mark("which")
            self._span = ui.select(
                list(SPANS), value="7 days", label="Time", on_change=self._draw_series
            ).mark("span")

    async def _draw_series(self) -> None:
        if not self._selected.value:
            self._chart.clear()
            with self._chart:
                ui.label("No series yet: send points to POST /anomalies/metrics.").classes(
                    "sh-empty"
                )
            return
        start = {"from": datetime.now(UTC) - timedelta(hours=SPANS[self._span.value])}
        series = await self._request(self._api.get_series(series=self._selected.value, **start))
        found = series and await self._request(
            self._api.list_anomalies(metric=series["metric"], limit=200, **start)
        )
        self._chart.clear()
        if series is None:
            return
        anomalies = [
            a for a in (found or {}).get("anomalies", []) if a["series"] == series["series"]
        ]
        with self._chart:
            ui.echart(series_chart(series)).classes("w-full h-80").mark("chart")
            for anomaly in anomalies[:MAX_EXPLANATIONS]:
                self._draw_anomaly(anomaly)

    def _draw_anomaly(self, anomaly: dict[str, Any]) -> None:
        feedback = anomaly["feedback"]
        with ui.row().classes("w-full items-center no-wrap").mark("anomaly"):
            ui.label(_short_time(anomaly["time"])).classes("sh-muted text-sm whitespace-nowrap")
            ui.label(anomaly["sentence"]).classes("grow")
            if feedback:
                verdict = "an anomaly" if feedback["anomaly"] else "not an anomaly"
                ui.label(verdict).classes("sh-muted")
            elif self._may_edit:
                _button("Not an anomaly", lambda: self._reject_anomaly(anomaly))

    async def _reject_anomaly(self, anomaly: dict[str, Any]) -> None:
        await self._request(self._api.give_feedback(id=anomaly["id"], anomaly=False))
        await self._draw_series()

    # Suggested parameters

    async def _draw_suggestion(self) -> None:
        found = ((await self._request(self._api.get_suggestion())) or {}).get("suggestion")
        self._suggestion.clear()
        if not found or not found["parameters"]:
            return
        parameters = ", ".join(f"{name} {value:g}" for name, value in found["parameters"].items())
        with self._suggestion, ui.row().classes("w-full items-center no-wrap"):
            ui.label(
                f"Based on {found['windows'] + found['denied']} verdicts, these parameters score "
                f"{found['score']:g} of 100 (now {found['current']:g}): {parameters}."
            ).classes("grow")
            if self._may_edit:
                _button("Use them", lambda: self._apply_suggestion(found["parameters"]))

    async def _apply_suggestion(self, parameters: dict[str, Any]) -> None:
        put = self._context.client.platform.put_parameters
        if await self._request(put(capability="anomalies", body=parameters)) is not None:
            ui.notify("Takes effect with the next point.", type="positive")
            self._suggestion.clear()

    # Heat map

    async def _draw_heat_map(self) -> None:
        """Open alerts by tenant for the operator, anomalies by metric for others."""
        open_alerts = await self._open_alerts_by_tenant()
        if open_alerts:
            title = "Open alerts by tenant and priority"
            options, rows = alerts_heat_map(open_alerts)
        else:
            now = datetime.now(UTC)
            found = await self._request(
                self._api.list_anomalies(limit=1000, **{"from": now - timedelta(days=DAYS)})
            )
            if not found:
                self._heat_map.clear()
                return
            title = f"Anomalies by metric, last {DAYS} days"
            options, rows = anomalies_heat_map(found["anomalies"], now)
        self._heat_map.clear()
        with self._heat_map:
            ui.label(title).classes("sh-h2")
            height = f"height: {120 + 28 * rows}px"
            ui.echart(options).classes("w-full").style(height).mark("heatmap")

    async def _open_alerts_by_tenant(self) -> dict[str, dict[str, int]]:
        """Open alerts by tenant and priority, from the last run of `anomalies.keep`.

        Empty for anyone but the operator.
        """
        if not self._context.may("admin:platform"):
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

    async def _draw_maintenance(self) -> None:
        found = await self._request(self._api.list_maintenance())
        self._windows.clear()
        with self._windows:
            ui.label("Maintenance").classes("sh-h2")
            for name, window in (found or {}).get("maintenance", {}).items():
                self._draw_window(name, window)
            if self._may_edit:
                self._draw_window_form()

    def _draw_window(self, name: str, window: dict[str, Any]) -> None:
        repeat = window["repeat"]
        text = f"{name}: {_short_time(window['from'])} to {_short_time(window['to'])}"
        if repeat:
            text += f", repeated on {', '.join(repeat['days'])} ({repeat['timezone']})"
        text += f"; metrics {window['match']['metric']}. {window['reason']}"
        with ui.row().classes("w-full items-center").mark("window"):
            if window["active"]:
                ui.badge("now", color="warning")
            else:
                ui.badge("planned", color="grey")
            ui.label(text).classes("grow")
            if self._may_edit:
                _button("Remove", lambda: self._delete_window(name))

    def _draw_window_form(self) -> None:
        async def start_window() -> None:
            now = datetime.now(UTC)
            window = {
                "from": now.isoformat(),
                "to": (now + timedelta(hours=float(hours.value or 1))).isoformat(),
                "match": {"metric": metric.value},
            }
            await self._request(self._api.put_maintenance(id=name.value, body=window))
            await self._draw_maintenance()

        with ui.row().classes("items-end"):
            name = ui.input("Name", value="maintenance").mark("window-name")
            metric = ui.input("Metrics", value="*").mark("window-metric")
            hours = ui.number("Hours from now", value=1, min=0.1, max=168)
            start = ui.button("Start maintenance window", on_click=start_window)
            start.props("unelevated").mark("window-start")

    async def _delete_window(self, name: str) -> None:
        await self._request(self._api.delete_maintenance(id=name))
        await self._draw_maintenance()


def _button(text: str, on_click: Any) -> None:
    ui.button(text, on_click=on_click).props("flat dense")


def _alert_status(alert: dict[str, Any]) -> str:
    parts = [f"{alert['state']} since {_short_time(alert['opened'])}"]
    if alert["acknowledged_by"]:
        parts.append(f"acknowledged by {alert['acknowledged_by']}")
    if alert["suppressed_by"]:
        parts.append(f"muted by maintenance: {', '.join(alert['suppressed_by'])}")
    if alert["inhibited_by"]:
        parts.append("muted while a P1 alert is open")
    if alert["reopened"]:
        parts.append(f"reopened {alert['reopened']} times")
    latest = max(m["time"] for m in alert["members"])
    parts.append(f"last point {_short_time(latest)}")
    metrics = sorted({m["metric"] for m in alert["members"]})
    return "; ".join([*parts, f"metrics: {', '.join(metrics)}"])


def _series_name(series: dict[str, Any]) -> str:
    labels = ", ".join(f"{k}={v}" for k, v in series["labels"].items())
    return f"{series['metric']} ({labels})" if labels else str(series["metric"])


def _short_time(time: str | None) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%d %b %H:%M}" if time else ""
