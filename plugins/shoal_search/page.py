"""The console's page: search as the signed-in key, with the parts of each score."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any
from urllib.parse import urlencode

from shoal import PageContext

TYPES = ("item", "update", "doc", "file")
SINCE = {"": "Any time", "1": "Last day", "7": "Last week", "30": "Last month", "365": "Last year"}
MAX_HITS = 20
PARTS = {"semantic": "meaning", "keyword": "words", "recency": "recency"}


async def page(context: PageContext) -> None:
    """Draw the form, and what the query in the address finds."""
    from nicegui import ui

    context.require("read:boards")
    asked = context.query
    _draw_form(ui, asked)
    if asked.get("q", "").strip():
        with ui.column().classes("w-full").mark("search-results"):
            await _draw_results(ui, context, _request(asked))


def _draw_form(ui: Any, asked: Mapping[str, str]) -> None:
    def search() -> None:
        if (query.value or "").strip():
            chosen = {
                "q": query.value.strip(),
                "type": ",".join(kinds.value or ()),
                "board": (board.value or "").strip(),
                "days": since.value,
            }
            ui.navigate.to(f"/search?{urlencode({k: v for k, v in chosen.items() if v})}")

    with ui.row().classes("items-center w-full no-wrap"):
        query = ui.input("Search by meaning or by words", value=asked.get("q", ""))
        query.props("outlined clearable autofocus").classes("grow").mark("search-query")
        query.on("keydown.enter", search)
        ui.button("Search", on_click=search).props("unelevated").mark("search-go")
    with ui.row().classes("items-center w-full"):
        chosen = [kind for kind in asked.get("type", "").split(",") if kind in TYPES]
        kinds = ui.select(list(TYPES), multiple=True, label="Types", value=chosen)
        kinds.props("outlined dense use-chips").classes("w-64")
        board = ui.input("Boards, separated by commas", value=asked.get("board", ""))
        board.props("outlined dense clearable").classes("w-64")
        days = asked.get("days", "")
        since = ui.select(SINCE, value=days if days in SINCE else "", label="Changed")
        since.props("outlined dense").classes("w-40")


def _request(asked: Mapping[str, str]) -> dict[str, Any]:
    """The search that an address asks for, as the API takes it."""
    wanted: dict[str, Any] = {"q": asked["q"], "limit": MAX_HITS}
    for name in ("type", "board"):
        if parts := [part.strip() for part in asked.get(name, "").split(",") if part.strip()]:
            wanted[name] = parts
    if asked.get("days") in SINCE and asked["days"]:
        start = datetime.now(UTC) - timedelta(days=int(asked["days"]))
        wanted["updated_after"] = start.isoformat()
    return wanted


async def _draw_results(ui: Any, context: PageContext, wanted: dict[str, Any]) -> None:
    answer = await context.client.search.search(**wanted)
    if not answer["hits"]:
        ui.label("Nothing found.").classes("sh-empty").mark("search-nothing")
        return
    ui.label(
        f"Best {len(answer['hits'])} of {answer['total']:,} items, in {answer['took_ms']:.0f} ms"
    ).classes("sh-muted")
    for correction in answer["corrections"]:
        ui.label(f"“{correction['typed']}” was read as “{correction['meant'][0]}”.")
    for hit in answer["hits"]:
        _hit(ui, context, hit)


def _hit(ui: Any, context: PageContext, hit: dict[str, Any]) -> None:
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
                ui.label(f"changed {context.format_time(hit['updated_at'])}").classes("sh-muted")
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
                    bar = ui.linear_progress(value, show_value=False, size="6px").props("rounded")
                    bar.props["aria-label"] = f"{name}: {value:.3f}"


def mark(text: str, ranges: Sequence[Sequence[int]]) -> str:
    """Escape `text` as HTML and mark parts of it."""
    parts, at = [], 0
    for start, end in ranges:
        parts += [escape(text[at:start]), "<mark>", escape(text[start:end]), "</mark>"]
        at = end
    return "".join([*parts, escape(text[at:])])
