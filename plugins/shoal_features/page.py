"""The console's page: the views with their freshness, and a look-up of one entity."""

from typing import Any

from shoal import PageContext, ShoalError

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


async def page(context: PageContext) -> None:
    """Draw the page."""
    from nicegui import ui

    client = context.client.features
    try:
        views, fresh = (await client.views())["views"], (await client.freshness())["views"]
    except ShoalError as error:
        ui.label(str(error)).classes("sh-empty").mark("features-error")
        return
    if not any(view["features"] for view in views):
        ui.label("No features are defined yet: `shoal features apply FILE`.").classes("sh-empty")
        return
    _draw_lookup(client, views)
    rows = _feature_rows(views, {f["view"]: f for f in fresh})
    columns = _columns("feature", "view", "kind", "type", "age", "nulls", "drift", "late")
    ui.table(rows=rows, columns=columns, row_key="key", pagination=25).classes("w-full").mark(
        "features-views"
    )


def _draw_lookup(client: Any, views: list[dict[str, Any]]) -> None:
    from nicegui import ui

    async def look_up() -> None:
        result.clear()
        entity_id = (entity.value or "").strip()
        if entity_id:
            features = [
                f["name"] for v in views if v["entity"] == kind.value for f in v["features"]
            ]
            with result:
                await _draw_entity(client, kind.value, entity_id, features)

    with ui.row().classes("items-center w-full no-wrap"):
        kinds = sorted({v["entity"] for v in views})
        kind = ui.select(kinds, value=kinds[0], label="Entity")
        kind.props("outlined dense").classes("w-40")
        entity = ui.input(placeholder="Entity ID")
        entity.props("outlined dense clearable aria-label='Entity ID'").classes("grow")
        entity.mark("features-entity").on("keydown.enter", look_up)
        ui.button("Look up", on_click=look_up).props("unelevated").mark("features-go")
    result = ui.column().classes("w-full")


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
