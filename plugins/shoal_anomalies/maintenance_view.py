"""Maintenance windows on the console's page, and a form for a new one."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from nicegui import ui
from pydantic import ValidationError

from shoal import PageContext, ShoalError

from .maintenance import Match
from .points import Labels

MAX_NAMED = 5
"""Series that the form names of those it would silence."""


class MaintenanceView:
    """Draws the windows, again whenever something changed, and the form once.

    Args:
        page: Whom it is drawn for.
        series: Metric and labels of each of the tenant's series.
    """

    def __init__(self, page: PageContext, series: list[tuple[str, Labels]]) -> None:
        self._page, self._series = page, series
        self._api = page.client.anomalies
        self._may_edit = page.may("write:tenant")
        page.heading("Maintenance")
        self._windows = ui.column().classes("w-full").mark("maintenance")
        if self._may_edit:
            self._draw_form()

    async def draw(self) -> None:
        """Draw the windows as they are now."""
        found: dict[str, Any] = (await self._api.list_maintenance())["maintenance"]
        self._windows.clear()
        with self._windows:
            if not found:
                ui.label("No maintenance windows.").classes("sh-muted")
            for name, window in found.items():
                self._draw_window(name, window)

    def _draw_window(self, name: str, window: Mapping[str, Any]) -> None:
        with ui.row().classes("w-full items-center").mark("window"):
            if window["active"]:
                ui.badge("now", color="warning")
            else:
                ui.badge("planned", color="secondary")
            text = ui.label(describe_window(name, window, self._page))
            text.classes("grow").style("flex:1 1 200px; overflow-wrap:anywhere")
            if self._may_edit:
                button = ui.button("Remove", on_click=partial(self._delete, name))
                button.props(f'flat dense aria-label="Remove {name}"')

    async def _delete(self, name: str) -> None:
        question = f"Remove the maintenance window {name}?"
        if await self._page.ask(question, "Its alerts notify again at once.", "Remove"):
            try:
                await self._api.delete_maintenance(id=name)
            except ShoalError as error:
                self._page.notify_error(error)
            await self.draw()

    def _draw_form(self) -> None:
        zone = str(self._page.timezone)
        with ui.element("section").classes("sh-card w-full flex flex-col"):
            self._page.heading("New maintenance window", 3)
            with ui.row().classes("w-full"):
                self._name = self._field("Name", "w-56")
                self._metric = self._field("Metrics (* stands for any characters)", "w-72")
            with ui.row().classes("w-full"):
                self._start = self._field(f"Start ({zone})", "w-64", "datetime-local")
                self._end = self._field(f"End ({zone})", "w-64", "datetime-local")
            self._reason = self._field("Reason", "w-full")
            self._preview = ui.label().classes("sh-muted").mark("window-preview")
            ui.button("Add maintenance window", on_click=self._add).props("unelevated")
        self._show_preview()

    def _field(self, label: str, width: str, kind: str = "text") -> ui.input:
        field = ui.input(label, on_change=self._show_preview)
        field.props(f"outlined dense stack-label type={kind} debounce=200")
        return field.classes(f"{width} max-w-full")

    def _covered(self) -> list[str]:
        """The series that the form's metrics match."""
        match = Match(metric=(self._metric.value or "").strip())
        return [
            ", ".join([metric, *(f"{k}={v}" for k, v in labels.items())])
            for metric, labels in self._series
            if match.covers(metric, labels)
        ]

    def _describe_covered(self) -> str:
        covered = self._covered()
        if not covered:
            return "no series that exists now"
        names = "; ".join(covered[:MAX_NAMED])
        more = f"; and {len(covered) - MAX_NAMED} more" if len(covered) > MAX_NAMED else ""
        return f"{len(covered)} of {len(self._series)} series: {names}{more}"

    def _show_preview(self) -> None:
        if (self._metric.value or "").strip():
            self._preview.set_text(f"It would silence {self._describe_covered()}.")
        else:
            self._preview.set_text("Enter metrics to see what it would silence.")

    def _read(self) -> tuple[str, datetime, datetime]:
        """The name, start and end.

        Raises:
            ValueError: A field is empty or wrong, in words for the reader.
        """
        name = (self._name.value or "").strip()
        required = {"a name": name, "metrics": (self._metric.value or "").strip()}
        required |= {"a reason": (self._reason.value or "").strip()}
        if missing := [what for what, value in required.items() if not value]:
            raise ValueError(f"Enter {' and '.join(missing)}.")
        start = read_local_time("start", self._start.value, self._page.timezone)
        end = read_local_time("end", self._end.value, self._page.timezone)
        if end <= start:
            raise ValueError("The end must be after the start.")
        if end <= datetime.now(UTC):
            raise ValueError("The end has passed already.")
        try:
            self._covered()
        except ValidationError:
            raise ValueError("Metrics may have at most 200 characters.") from None
        return name, start, end

    async def _add(self) -> None:
        try:
            name, start, end = self._read()
        except ValueError as error:
            ui.notify(str(error), type="negative")
            return
        window = {
            "from": start.isoformat(),
            "to": end.isoformat(),
            "match": {"metric": self._metric.value.strip()},
            "reason": self._reason.value.strip(),
        }
        first, last = (self._page.format_time(window[key]) for key in ("from", "to"))
        explanation = (
            f"From {first} to {last} ({self._page.timezone}), {describe_span(start, end)}, "
            f"nobody is notified of alerts on {self._describe_covered()}."
        )
        if not await self._page.ask(f"Start {name}?", explanation, "Silence these alerts"):
            return
        try:
            await self._api.put_maintenance(id=name, body=window)
        except ShoalError as error:
            self._page.notify_error(error)
            return
        for field in (self._name, self._metric, self._start, self._end, self._reason):
            field.set_value("")
        await self.draw()


def read_local_time(what: str, text: str | None, zone: tzinfo) -> datetime:
    """A moment from a browser's field of date and time.

    Args:
        what: The field's name, for the message.
        text: Such as "2026-11-28T14:05".
        zone: The reader's.

    Raises:
        ValueError: It is empty or no time, or clocks skip or repeat it.
    """
    try:
        local = datetime.fromisoformat(text or "")
    except ValueError:
        raise ValueError(f"Enter the {what} as a date and a time.") from None
    if local.tzinfo is not None:
        raise ValueError(f"Enter the {what} as a date and a time.")
    early = local.replace(tzinfo=zone, fold=0)
    late = local.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise ValueError(f"The clocks change at the {what}: choose a time an hour away from it.")
    return early


def describe_span(start: datetime, end: datetime) -> str:
    """How long something lasts: "2 h 30 min"."""
    minutes = round((end.astimezone(UTC) - start.astimezone(UTC)) / timedelta(minutes=1))
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "less than a minute"


def describe_window(name: str, window: Mapping[str, Any], page: PageContext) -> str:
    """A window's times, metrics and reason."""
    text = f"{name}: {page.format_time(window['from'])} to {page.format_time(window['to'])}"
    if repeat := window["repeat"]:
        text += f", repeated on {', '.join(repeat['days'])} ({repeat['timezone']})"
    return f"{text}; metrics {window['match']['metric']}. {window['reason']}"
