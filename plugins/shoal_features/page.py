"""The console's page: the views with their freshness, and a look at one entity."""

from typing import Any

from shoal import PageContext, ShoalError


async def page(context: PageContext) -> None:
    from nicegui import ui

    client = context.client.features
    try:
        views, fresh = (await client.views())["views"], (await client.freshness())["views"]
    except ShoalError as error:
        ui.label(str(error)).classes("sh-empty").mark("features-error")
        return
    state = {f["view"]: f for f in fresh}
    names = [f["name"] for v in views for f in v["features"]]

    async def look() -> None:
        answer.clear()
        if not (entity.value or "").strip():
            return
        try:
            wanted = {
                kind.value: entity.value.strip(),
                "features": ",".join(_of(views, kind.value)),
                "metadata": "true",
            }
            found = await client.get(**wanted)
        except ShoalError as error:
            with answer:
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
        with answer:
            ui.table(
                rows=rows, columns=_columns("feature", "value", "status", "age"), row_key="feature"
            ).classes("w-full").mark("features-answer")

    if not names:
        ui.label("No features are defined yet: `shoal features apply FILE`.").classes("sh-empty")
        return
    with ui.row().classes("items-center w-full no-wrap"):
        kinds = sorted({v["entity"] for v in views})
        kind = (
            ui.select(kinds, value=kinds[0], label="Entity").props("outlined dense").classes("w-40")
        )
        entity = (
            ui.input(placeholder="Its id")
            .props("outlined dense clearable aria-label='Id of the entity'")
            .classes("grow")
        )
        entity.mark("features-entity").on("keydown.enter", look)
        ui.button("Look", on_click=look).props("unelevated").mark("features-go")
    answer = ui.column().classes("w-full")
    rows = []
    for view in views:
        now = state.get(view["name"], {})
        for f in view["features"]:
            watched: dict[str, Any] = now.get("features", {}).get(f["name"], {})
            rows.append(
                {
                    "key": f"{view['name']}:{f['name']}",
                    "feature": f["name"],
                    "view": view["name"],
                    "kind": view["kind"],
                    "type": f["dtype"],
                    "age": _age(now.get("age_seconds")),
                    "nulls": _percent(watched.get("null_share")),
                    "drift": "–" if watched.get("psi") is None else f"{watched['psi']:.2f}",
                    "late": now.get("too_late", "–"),
                }
            )
    columns = _columns("feature", "view", "kind", "type", "age", "nulls", "drift", "late")
    ui.table(rows=rows, columns=columns, row_key="key", pagination=25).classes("w-full").mark(
        "features-views"
    )


def _of(views: list[dict[str, Any]], entity: str) -> list[str]:
    return [f["name"] for v in views if v["entity"] == entity for f in v["features"]]


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
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
