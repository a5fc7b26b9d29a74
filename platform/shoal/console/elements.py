"""Elements that several pages share."""

from html import escape

from nicegui import ui

from shoal.contract.errors import ShoalError

from .messages import describe_error


def draw_heading(text: str, level: int = 2) -> ui.label:
    """Draw a heading of the page: `h1` to `h3`."""
    heading = ui.label(text).classes(f"sh-h{level}")
    heading.tag = f"h{level}"
    return heading


def draw_pill(text: str, style: str = "") -> ui.html:
    """Draw a small label, with a dot in the colour of `style`."""
    dot = f'<span class="sh-dot {style}"></span>' if style else ""
    return ui.html(f'<span class="sh-pill {style}">{dot}{escape(text)}</span>', sanitize=False)


def draw_error(error: Exception) -> None:
    """Draw an error; only a `ShoalError` shows its details."""
    title, detail = "Something went wrong on this page", "The cause is in the console's log."
    request_id = None
    if isinstance(error, ShoalError):
        title, detail, request_id = error.title, describe_error(error), error.request_id
    with (
        ui.element("div")
        .classes("sh-card w-full")
        .props("role=alert")
        .style("border-color:color-mix(in srgb, var(--sh-bad) 45%, transparent)")
    ):
        with ui.row().classes("items-center no-wrap").style("gap:10px"):
            ui.icon("error_outline", size="22px").style("color:var(--sh-bad)")
            draw_heading(title)
        ui.label(detail).classes("sh-muted").style("white-space:pre-line; overflow-wrap:anywhere")
        if request_id:
            ui.label(f"Request {request_id}").classes("sh-mono sh-muted")


def draw_empty(text: str) -> None:
    """Draw a text where there is nothing to show."""
    ui.label(text).classes("sh-empty")
