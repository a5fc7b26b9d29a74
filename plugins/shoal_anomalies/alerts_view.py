"""The alerts on the console's page: all of them, or the one that the address names."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from shoal import PageContext, ShoalError

COLOURS = {"P1": "negative", "P2": "warning", "P3": "info"}
_UTC = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
MAX_ALERTS = 200
"""Alerts that are listed."""


class AlertsView:
    """Draws the alerts, again whenever something changed.

    Args:
        page: Whom it is drawn for. `alert` in its query shows one alert alone.
    """

    def __init__(self, page: PageContext) -> None:
        self._page, self._api = page, page.client.anomalies
        self._may_edit = page.may("write:tenant")
        self._only = page.query.get("alert")
        self.alerts: list[dict[str, Any]] = []
        self._column = ui.column().classes("w-full").mark("alerts")

    async def draw(self) -> None:
        """Draw what the platform says now."""
        self.alerts = (await self._api.list_alerts(limit=MAX_ALERTS))["alerts"]
        self._column.clear()
        with self._column:
            if self._only is not None:
                self._draw_one(self._only)
            else:
                self._draw_all()

    def _draw_one(self, id: str) -> None:
        ui.link("All alerts", "/anomalies").classes("sh-link")
        found = [alert for alert in self.alerts if alert["id"] == id]
        self._page.heading("Alert")
        for alert in found:
            self._draw_alert(alert)
        if not found:
            ui.label("There is no such alert among the latest.").classes("sh-empty")

    def _draw_all(self) -> None:
        unresolved = [a for a in self.alerts if a["state"] != "resolved"]
        resolved = [a for a in self.alerts if a["state"] == "resolved"]
        self._page.heading(f"Alerts: {len(unresolved)} open")
        if not unresolved:
            ui.label("No open alerts.").classes("sh-empty")
        for alert in sorted(unresolved, key=lambda a: (a["priority"], a["opened"])):
            self._draw_alert(alert)
        if resolved:
            with ui.expansion(f"Resolved ({len(resolved)})").classes("w-full"):
                for alert in resolved:
                    self._draw_alert(alert)

    def _draw_alert(self, alert: dict[str, Any]) -> None:
        sentence = localize(alert["sentence"], self._page)
        with (
            ui.element("article").classes("sh-card w-full").mark("alert"),
            ui.row().classes("w-full items-center"),
        ):
            ui.badge(alert["priority"], color=COLOURS[alert["priority"]])
            with ui.column().classes("grow min-w-0 gap-0").style("flex:1 1 200px"):
                link = ui.link(sentence, f"/anomalies?{urlencode({'alert': alert['id']})}")
                link.style("color:inherit; overflow-wrap:anywhere")
                ui.label(describe_alert(alert, self._page)).classes("sh-muted text-sm")
                self._draw_series_links(alert)
            if self._may_edit and alert["state"] == "open":
                self._draw_button("Acknowledge", self._api.acknowledge_alert, alert)
            if self._may_edit and alert["state"] != "resolved":
                self._draw_button("Resolve", self._api.resolve_alert, alert)

    def _draw_series_links(self, alert: dict[str, Any]) -> None:
        series = {member["series"]: member["metric"] for member in alert["members"]}
        with ui.row().classes("gap-3 text-sm"):
            for id, metric in sorted(series.items(), key=lambda item: item[1])[:5]:
                query = urlencode({"series": id, "alert": alert["id"]})
                ui.link(f"Chart of {metric}", f"/anomalies?{query}").classes("sh-link")

    def _draw_button(
        self, text: str, operation: Callable[..., Awaitable[Any]], alert: dict[str, Any]
    ) -> None:
        async def change() -> None:
            try:
                await operation(id=alert["id"])
            except ShoalError as error:
                self._page.notify_error(error)
            await self.draw()

        ui.button(text, on_click=change).props("flat dense")


def localize(text: str, page: PageContext) -> str:
    """A sentence with its times in the reader's zone."""

    def replace(found: re.Match[str]) -> str:
        return page.format_time(found[0].replace(" UTC", "Z").replace(" ", "T"))

    return _UTC.sub(replace, text)


def describe_alert(alert: dict[str, Any], page: PageContext) -> str:
    """When an alert opened and ended, who has it, and what it is about."""
    parts = [f"opened {page.format_time(alert['opened'])}"]
    if alert["state"] == "acknowledged" or alert["acknowledged"]:
        by = f" by {alert['acknowledged_by']}" if alert["acknowledged_by"] else ""
        parts.append(f"acknowledged{by} {page.format_time(alert['acknowledged'])}")
    if alert["state"] == "resolved":
        parts.append(f"resolved {page.format_time(alert['resolved'])}")
    if alert["suppressed_by"]:
        parts.append(f"muted by maintenance: {', '.join(alert['suppressed_by'])}")
    if alert["inhibited_by"]:
        parts.append("muted while a P1 alert is open")
    if alert["reopened"]:
        times = "once" if alert["reopened"] == 1 else f"{alert['reopened']} times"
        parts.append(f"reopened {times}")
    latest = max(m["time"] for m in alert["members"])
    parts.append(f"last point {page.format_time(latest)}")
    metrics = sorted({m["metric"] for m in alert["members"]})
    return "; ".join([*parts, f"metrics: {', '.join(metrics)}"])
