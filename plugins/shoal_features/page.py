"""The console's page: the views with their freshness, and a look-up of one entity."""

from typing import Any
from urllib.parse import urlencode

from shoal import PageContext, ShoalError

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


async def page(context: PageContext) -> None:
    """Draw the page."""
    from nicegui import ui

    context.require("read:tenant")
    client = context.client.features
    views = (await client.views())["views"]
    if not any(view["features"] for view in views):
        ui.label("No features are defined yet: `shoal features apply FILE`.").classes("sh-empty")
        return
    await _draw_lookup(context, views)
    context.heading("Features")
    columns = _columns("feature", "view", "kind", "type", "age", "nulls", "drift", "late")
    table = ui.table(rows=[], columns=columns, row_key="key", pagination=25).classes("w-full")
    table.mark("features-views")

    async def refresh() -> None:
        fresh = (await client.freshness())["views"]
        table.rows = _feature_rows(views, {f["view"]: f for f in fresh})

    await refresh()
    context.on_change(refresh)


async def _draw_lookup(context: PageContext, views: list[dict[str, Any]]) -> None:
    """Draw the look-up; the address says whose features are shown."""
    from nicegui import ui

    kinds = sorted({v["entity"] for v in views})
    chosen, id = context.query.get("entity"), context.query.get("id", "").strip()

    def look_up() -> None:
        if entity.value and entity.value.strip():
            query = urlencode({"entity": kind.value, "id": entity.value.strip()})
            ui.navigate.to(f"/features?{query}")

    context.heading("Look up an entity")
    with ui.row().classes("items-center w-full"):
        kind = ui.select(kinds, value=chosen if chosen in kinds else kinds[0], label="Entity")
        kind.props("outlined dense").classes("w-40")
        entity = ui.input("Entity ID", value=id)
        entity.props("outlined dense clearable").classes("grow")
        entity.mark("features-entity").on("keydown.enter", look_up)
        ui.button("Look up", on_click=look_up).props("unelevated").mark("features-go")
    if id:
        features = [f["name"] for v in views if v["entity"] == kind.value for f in v["features"]]
        with ui.column().classes("w-full"):
            await _draw_entity(context.client.features, kind.value, id, features)


async def _draw_entity(client: Any, kind: str, entity_id: str, features: list[str]) -> None:
    from nicegui import ui

    query = {kind: entity_id, "features": ",".join(features), "metadata": "true"}
    try:
        found = await client.get(**query)
    except ShoalError as error:
        ui.label(str(error)).classes("sh-empty").mark("features-look-error")
        return
    rows = [
        {
            "feature": name,
            "value": "–" if value is None else str(value),
            "status": found["metadata"][name]["status"],
            "age": _age(found["metadata"][name].get("age_seconds")),
        }
        for name, value in found["features"].items()
    ]
    columns = _columns("feature", "value", "status", "age")
    ui.table(rows=rows, columns=columns, row_key="feature").classes("w-full").mark(
        "features-answer"
    )


def _feature_rows(
    views: list[dict[str, Any]], freshness: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    rows = []
    for view in views:
        fresh = freshness.get(view["name"], {})
        for feature in view["features"]:
            profile = fresh.get("features", {}).get(feature["name"], {})
            rows.append(
                {
                    "key": f"{view['name']}:{feature['name']}",
                    "feature": feature["name"],
                    "view": view["name"],
                    "kind": view["kind"],
                    "type": feature["dtype"],
                    "age": _age(fresh.get("age_seconds")),
                    "nulls": _percent(profile.get("null_share")),
                    "drift": "–" if profile.get("psi") is None else f"{profile['psi']:.2f}",
                    "late": fresh.get("too_late", "–"),
                }
            )
    return rows


def _columns(*names: str) -> list[dict[str, Any]]:
    titles = {"late": "too late", "drift": "drift (PSI)"}
    return [
        {
            "name": n,
            "label": titles.get(n, n).capitalize(),
            "field": n,
            "align": "left",
            "sortable": True,
        }
        for n in names
    ]


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
