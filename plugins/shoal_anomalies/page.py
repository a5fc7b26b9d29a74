"""The console's page: alerts, series, suggestion, heat map and maintenance windows."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from shoal import PageContext, ShoalError

from .alerts_view import AlertsView, localize
from .charts import DAYS, alerts_heat_map, anomalies_heat_map, series_chart
from .maintenance_view import MaintenanceView

SPANS = {"6 hours": 6, "1 day": 24, "3 days": 72, "7 days": 168, "30 days": 720, "90 days": 2160}
DEFAULT_SPAN = "7 days"
MAX_EXPLANATIONS = 10
"""Anomalies listed below the chart of a series."""


async def draw_page(context: PageContext) -> None:
    """Draw the page."""
    context.require("read:tenant")
    await _Page(context).draw()


class _Page:
    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._api = context.client.anomalies
        self._may_edit = context.may("write:tenant")
        self._plot: ui.echart | None = None

    async def draw(self) -> None:
        """Draw all parts; those that can change are drawn again when they do."""
        listed = (await self._api.list_metrics())["series"]
        self._series = {s["series"]: _series_name(s) for s in listed}
        with ui.column().classes("w-full gap-6"):
            alerts = AlertsView(self._context)
            await alerts.draw()
            await self._draw_series_select(alerts.alerts)
            self._chart = ui.column().classes("w-full").mark("series")
            self._anomalies = ui.column().classes("w-full")
            await self._draw_series()
            self._suggestion = ui.column().classes("w-full").mark("suggestion")
            await self._draw_suggestion()
            self._heat_map = ui.column().classes("w-full").mark("heat")
            await self._draw_heat_map()
            windows = MaintenanceView(self._context, [(s["metric"], s["labels"]) for s in listed])
            await windows.draw()
        for refresh in (alerts.draw, self._draw_series, self._draw_heat_map, windows.draw):
            self._context.on_change(refresh)

    # A series

    async def _draw_series_select(self, alerts: list[dict[str, Any]]) -> None:
        query = self._context.query
        self._id = query.get("series")
        if self._id is None:
            self._id = await self._series_to_begin_with(alerts)
        self._span = query.get("span", DEFAULT_SPAN)
        if self._span not in SPANS:
            self._span = DEFAULT_SPAN
        with ui.row().classes("w-full items-end"):
            self._context.heading("Series").classes("grow")
            self._selected = ui.select(
                self._series,
                value=self._id if self._id in self._series else None,
                label="Series",
                with_input=True,
                on_change=self._open,
            )
            self._selected.classes("w-96 max-w-full").mark("which")
            self._spans = ui.select(
                list(SPANS), value=self._span, label="Time", on_change=self._open
            )
            self._spans.mark("span")

    async def _series_to_begin_with(self, alerts: list[dict[str, Any]]) -> str | None:
        """That of the alert in the address, else the one with the latest anomaly."""
        for alert in alerts:
            if alert["id"] == self._context.query.get("alert"):
                return str(alert["members"][0]["series"])
        latest = (await self._api.list_anomalies(limit=1))["anomalies"]
        return latest[0]["series"] if latest else next(iter(self._series), None)

    def _open(self) -> None:
        """Go to the address of the chosen series and time."""
        chosen = {"series": self._selected.value or "", "span": self._spans.value}
        if alert := self._context.query.get("alert"):
            chosen["alert"] = alert
        ui.navigate.to(f"/anomalies?{urlencode(chosen)}")

    async def _draw_series(self) -> None:
        if self._id not in self._series:
            self._chart.clear()
            with self._chart:
                missing = "There is no such series." if self._id else "No series yet."
                ui.label(f"{missing} Send points to POST /anomalies/metrics.").classes("sh-empty")
            return
        start = {"from": datetime.now(UTC) - timedelta(hours=SPANS[self._span])}
        series = await self._api.get_series(series=self._id, **start)
        found = await self._api.list_anomalies(metric=series["metric"], limit=200, **start)
        options = series_chart(series)
        if self._plot is None:
            with self._chart:
                self._plot = ui.echart(options).classes("w-full h-80").mark("chart")
        else:
            self._plot.options.update(options)
            self._plot.update()
        anomalies = [a for a in found["anomalies"] if a["series"] == series["series"]]
        self._anomalies.clear()
        with self._anomalies:
            for anomaly in anomalies[:MAX_EXPLANATIONS]:
                self._draw_anomaly(anomaly)

    def _draw_anomaly(self, anomaly: dict[str, Any]) -> None:
        feedback = anomaly["feedback"]
        with ui.row().classes("w-full items-center").mark("anomaly"):
            time = self._context.format_time(anomaly["time"])
            ui.label(time).classes("sh-muted text-sm whitespace-nowrap")
            ui.label(localize(anomaly["sentence"], self._context)).classes("grow").style(
                "flex:1 1 200px"
            )
            if feedback:
                verdict = "an anomaly" if feedback["anomaly"] else "not an anomaly"
                ui.label(verdict).classes("sh-muted")
            elif self._may_edit:
                button = ui.button("Not an anomaly", on_click=lambda: self._reject(anomaly))
                button.props("flat dense")

    async def _reject(self, anomaly: dict[str, Any]) -> None:
        await self._api.give_feedback(id=anomaly["id"], anomaly=False)
        await self._draw_series()

    # Suggested parameters

    async def _draw_suggestion(self) -> None:
        found = (await self._api.get_suggestion())["suggestion"]
        self._suggestion.clear()
        if not found or not found["parameters"]:
            return
        parameters = ", ".join(f"{name} {value:g}" for name, value in found["parameters"].items())
        with self._suggestion, ui.row().classes("w-full items-center"):
            ui.label(
                f"Based on {found['windows'] + found['denied']} verdicts, these parameters score "
                f"{found['score']:g} of 100 (now {found['current']:g}): {parameters}."
            ).classes("grow").style("flex:1 1 200px; overflow-wrap:anywhere")
            if self._may_edit:
                button = ui.button(
                    "Use them", on_click=lambda: self._apply_suggestion(found["parameters"])
                )
                button.props("flat dense")

    async def _apply_suggestion(self, parameters: dict[str, Any]) -> None:
        await self._context.client.platform.put_parameters(capability="anomalies", body=parameters)
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
            start = {"from": now - timedelta(days=DAYS)}
            found = await self._api.list_anomalies(limit=1000, **start)
            title = f"Anomalies by metric, last {DAYS} days"
            options, rows = anomalies_heat_map(found["anomalies"], now, self._context.timezone)
        self._heat_map.clear()
        with self._heat_map:
            self._context.heading(title)
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


def _series_name(series: dict[str, Any]) -> str:
    labels = ", ".join(f"{k}={v}" for k, v in series["labels"].items())
    return f"{series['metric']} ({labels})" if labels else str(series["metric"])
