"""The console's page: search as the signed-in key, with the parts of each score."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from shoal import PageContext, ShoalError

TYPES = ("item", "update", "doc", "file")
SINCE = {"": "Any time", "1": "Last day", "7": "Last week", "30": "Last month", "365": "Last year"}
PARTS = {"semantic": "meaning", "keyword": "words", "recency": "recency"}


def page(context: PageContext) -> None:
    from nicegui import ui

    async def search() -> None:
        if not (query.value or "").strip():
            return
        results.clear()
        wanted: dict[str, Any] = {"q": query.value, "limit": 20}
        if kinds.value:
            wanted["type"] = list(kinds.value)
        if board.value:
            wanted["board"] = [part.strip() for part in board.value.split(",") if part.strip()]
        if since.value:
            wanted["updated_after"] = (
                datetime.now(UTC) - timedelta(days=int(since.value))
            ).isoformat()
        spinner.visible = True
        try:
            answer = await context.client.search.search(**wanted)
        except ShoalError as error:
            with results:
                ui.label(str(error)).classes("sh-empty").mark("search-error")
            return
        finally:
            spinner.visible = False
        with results:
            if not answer["hits"]:
                ui.label("Nothing found.").classes("sh-empty").mark("search-nothing")
                return
            ui.label(
                f"Best {len(answer['hits'])} of {answer['total']:,} items, "
                f"in {answer['took_ms']:.0f} ms"
            ).classes("sh-muted")
            for correction in answer["corrections"]:
                ui.label(f"“{correction['typed']}” was read as “{correction['meant'][0]}”.")
            for hit in answer["hits"]:
                _hit(ui, hit)

    with ui.row().classes("items-center w-full no-wrap"):
        query = (
            ui.input(placeholder="Search by meaning or by words")
            .props("outlined clearable autofocus aria-label='Search'")
            .classes("grow")
            .mark("search-query")
        )
        query.on("keydown.enter", search)
        ui.button("Search", on_click=search).props("unelevated").mark("search-go")
        spinner = ui.spinner(size="sm")
        spinner.visible = False
    with ui.row().classes("items-center w-full"):
        kinds = (
            ui.select(list(TYPES), multiple=True, label="Types")
            .props("outlined dense use-chips")
            .classes("w-64")
        )
        board = (
            ui.input(label="Boards", placeholder="all that you may see")
            .props("outlined dense clearable")
            .classes("w-64")
        )
        since = ui.select(SINCE, value="", label="Changed").props("outlined dense").classes("w-40")
    results = ui.column().classes("w-full").mark("search-results")


def _hit(ui: Any, hit: dict[str, Any]) -> None:
    with (
        ui.element("div").classes("sh-card w-full").mark("search-hit"),
        ui.row().classes("w-full no-wrap items-start"),
    ):
        with ui.column().classes("grow min-w-0 gap-1"):
            marks = hit["highlights"]
            title = mark(hit["title"], marks["title"]) if hit["title"] else escape(hit["id"])
            if hit["url"] and re.match(r"https?://", hit["url"]):
                link = f'href="{escape(hit["url"])}" target="_blank" rel="noopener"'
                title = f'<a class="sh-link" {link}>{title}</a>'
            ui.html(f'<h2 class="sh-h2">{title}</h2>', sanitize=False)
            ui.html(mark(hit["snippet"], marks["snippet"]), sanitize=False)
            with ui.row().classes("items-center gap-2"):
                ui.label(hit["type"]).classes("sh-pill")
                ui.label(hit["board_id"]).classes("sh-pill")
                ui.label(f"changed {hit['updated_at'][:10]}").classes("sh-muted")
        with ui.column().classes("w-44 shrink-0 gap-1"):
            ui.label(f"{hit['score']:.3f}").classes("sh-mono self-end")
            for part, name in PARTS.items():
                value = hit["scores"][part]
                with (
                    ui.row()
                    .classes("w-full no-wrap items-center gap-2")
                    .tooltip(f"{name}: {value:.3f}")
                ):
                    ui.label(name).classes("sh-muted w-16 text-xs")
                    ui.linear_progress(value, show_value=False, size="6px").props("rounded")


def mark(text: str, ranges: Sequence[Sequence[int]]) -> str:
    """Escape `text` as HTML and mark parts of it."""
    parts, at = [], 0
    for start, end in ranges:
        parts += [escape(text[at:start]), "<mark>", escape(text[start:end]), "</mark>"]
        at = end
    return "".join([*parts, escape(text[at:])])
