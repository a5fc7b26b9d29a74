"""A capability's parameters as a form, drawn from their JSON schema: defaults, the
tenant's own values, and bounds.
"""

from collections.abc import Callable
from typing import Any

import orjson
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.errors import Invalid

from .frame import empty, pill

Field = dict[str, Any]


def resolve(field: Field, schema: Field) -> Field:
    """The field with `$ref` followed, and an optional one (`anyOf` with null) as what
    it is when given.
    """
    while "$ref" in field:
        field = {
            **schema["$defs"][field["$ref"].rsplit("/", 1)[1]],
            **{k: v for k, v in field.items() if k != "$ref"},
        }
    if "allOf" in field and len(field["allOf"]) == 1:
        field = {
            **resolve(field["allOf"][0], schema),
            **{k: v for k, v in field.items() if k != "allOf"},
        }
    options = [o for o in field.get("anyOf", ()) if o.get("type") != "null"]
    if len(options) == 1:
        rest = {k: v for k, v in field.items() if k != "anyOf"}
        field = {**resolve(options[0], schema), **rest, "nullable": True}
    return field


def bounds(field: Field) -> str:
    """The bounds in words: "0 to 1", "above 0", or nothing."""
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    words = [
        f"at least {low:g}" if low is not None else "",
        f"above {above:g}" if above is not None else "",
    ]
    words += [
        f"at most {high:g}" if high is not None else "",
        f"below {below:g}" if below is not None else "",
    ]
    return ", ".join(w for w in words if w)


class Form:
    """The values on screen. Only those that differ from the default are the tenant's
    own.
    """

    def __init__(self, schema: Field, own: dict[str, Any]) -> None:
        self.fields = {
            name: resolve(field, schema) for name, field in schema.get("properties", {}).items()
        }
        self.own = own
        self.values = {
            name: own.get(name, field.get("default")) for name, field in self.fields.items()
        }

    def changed(self) -> dict[str, Any]:
        """What `PUT /platform/parameters/{capability}` takes: own values, defaults left
        out.
        """
        return {n: v for n, v in self.values.items() if v != self.fields[n].get("default")}

    def reset(self) -> None:
        self.values = {name: field.get("default") for name, field in self.fields.items()}


async def parameters(client: AsyncClient, capability: dict[str, Any], *, editable: bool) -> None:
    """The form, with its buttons where the key may change values."""
    name, schema = capability["name"], capability["parameters"]
    if not schema or not schema.get("properties"):
        empty("This capability has no parameters.")
        return
    form = Form(schema, (await client.platform.get_parameters(capability=name))["own"])
    ui.label(
        "What runs for your company. An experiment can vary any of them, and its winner is kept here."
    ).classes("sh-muted")
    problems: dict[str, ui.label] = {}

    @ui.refreshable
    def rows() -> None:
        problems.clear()
        with (
            ui.element("div")
            .classes("sh-card w-full")
            .style("display:flex; flex-direction:column; gap:0; padding:4px 20px")
        ):
            for i, (key, field) in enumerate(form.fields.items()):
                if i:
                    ui.element("div").classes("sh-rule")
                problems[key] = row(form, key, field, editable)

    async def save() -> None:
        for label in problems.values():
            label.set_visibility(False)
        try:
            form.own = (await client.platform.put_parameters(capability=name, body=form.changed()))[
                "own"
            ]
        except Invalid as error:
            for fault in error.errors:
                where = fault["location"].split(".")[0]
                if where in problems:
                    label = problems[where]
                    label.set_text(fault["message"])
                    label.set_visibility(True)
            ui.notify(error.detail, type="negative")
            return
        rows.refresh()
        ui.notify("Saved. It holds everywhere within a second.", type="positive")

    def defaults() -> None:
        form.reset()
        rows.refresh()

    rows()
    if editable:
        with ui.row().style("gap:10px"):
            ui.button("Save", on_click=save).props("unelevated")
            ui.button("Back to the defaults", on_click=defaults).props("flat")
    else:
        ui.label(
            "A reader's key shows them; to change them, sign in with an editor's key."
        ).classes("sh-muted")


def row(form: Form, name: str, field: Field, editable: bool) -> ui.label:
    """One parameter: what it is, its control, and (hidden) what is wrong with it."""
    with ui.element("div").style(
        "display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 280px), 1fr)); gap:8px 24px; padding:16px 0; width:100%"
    ):
        with ui.column().style("gap:2px"):
            with ui.row().classes("items-center").style("gap:8px"):
                ui.label(field.get("title") or name).classes("sh-h3")
                if name in form.own:
                    pill("own value", "sh-good")
            ui.label(name).classes("sh-mono sh-muted")
            if field.get("description"):
                ui.label(field["description"]).classes("sh-muted").style("font-size:13.5px")
        with ui.column().style("gap:2px; min-width:0"):
            control(form, name, field, editable)
            hint = " · ".join(
                p
                for p in (
                    bounds(field),
                    f"default {shown(field.get('default'))}" if "default" in field else "",
                )
                if p
            )
            ui.label(hint).classes("sh-muted").style("font-size:12.5px")
            problem = ui.label().style("color:var(--sh-bad); font-size:13px")
            problem.set_visibility(False)
    return problem


def shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def control(form: Form, name: str, field: Field, editable: bool) -> None:
    """The control that fits the field's type; JSON in a text box for what has none."""
    value, kind = form.values[name], field.get("type")

    def keep(convert: Callable[[Any], Any] = lambda v: v) -> Callable[[Any], None]:
        def changed(event: Any) -> None:
            form.values[name] = convert(event.value)

        return changed

    label = f"aria-label={name}"
    if "enum" in field:
        made: Any = (
            ui.select(field["enum"], value=value, on_change=keep())
            .props("outlined dense")
            .classes("w-full")
        )
    elif kind == "boolean":
        made = ui.switch(value=bool(value), on_change=keep())
    elif kind in ("number", "integer"):
        whole = kind == "integer"
        low, high = field.get("minimum"), field.get("maximum")
        step = 1 if whole else (high - low) / 100 if low is not None and high is not None else 0.01

        def number(v: Any) -> Any:
            return None if v is None else int(v) if whole and float(v).is_integer() else v

        with ui.row().classes("items-center no-wrap w-full").style("gap:16px"):
            made = (
                ui.number(value=value, on_change=keep(number), step=step)
                .props(f"outlined dense {label}")
                .style("width:128px; flex:none")
            )
            if low is not None and high is not None and value is not None:
                slider = ui.slider(min=low, max=high, step=step, value=value).bind_value(made)
                slider.props(f"aria-label={name}").set_enabled(editable)
    elif kind == "string":
        made = (
            ui.input(
                value=value or "",
                on_change=keep(lambda v: v or (None if field.get("nullable") else "")),
            )
            .props("outlined dense")
            .classes("w-full")
        )
    else:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
        made = (
            ui.textarea(value=text, on_change=keep(parsed))
            .props("outlined dense autogrow input-class=sh-mono")
            .classes("w-full")
        )
    made.props(label).set_enabled(editable)


def parsed(text: str) -> Any:
    """JSON where it is JSON, else the text itself, which the platform will refuse with
    a reason.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
