"""A capability's parameters on the console: a form, drawn from their JSON schema."""

from collections.abc import Callable
from typing import Any

import orjson
from nicegui import ui

from shoal.contract.errors import Invalid

from .elements import draw_empty, draw_pill
from .messages import describe_error, plain_message, sentence
from .open_pages import OpenPage

Field = dict[str, Any]
"""The JSON schema of one parameter."""


def resolve_field(field: Field, schema: dict[str, Any]) -> Field:
    """The field with `$ref` followed; an optional one has its type when given.

    Such a field (`anyOf` with null) is marked as `nullable`.
    """
    while "$ref" in field:
        field = {
            **schema["$defs"][field["$ref"].rsplit("/", 1)[1]],
            **{k: v for k, v in field.items() if k != "$ref"},
        }
    if "allOf" in field and len(field["allOf"]) == 1:
        field = {
            **resolve_field(field["allOf"][0], schema),
            **{k: v for k, v in field.items() if k != "allOf"},
        }
    options = [o for o in field.get("anyOf", ()) if o.get("type") != "null"]
    if len(options) == 1:
        rest = {k: v for k, v in field.items() if k != "anyOf"}
        field = {**resolve_field(options[0], schema), **rest, "nullable": True}
    return field


def describe_bounds(field: Field) -> str:
    """The bounds in words: "0 to 1", "above 0", or nothing."""
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    words = [
        f"at least {low:g}" if low is not None else "",
        f"above {above:g}" if above is not None else "",
        f"at most {high:g}" if high is not None else "",
        f"below {below:g}" if below is not None else "",
    ]
    return ", ".join(w for w in words if w)


class ParameterForm:
    """The values on screen. Those that differ from the default are the tenant's own."""

    def __init__(self, schema: Field, own: dict[str, Any]) -> None:
        self.fields = {
            name: resolve_field(field, schema)
            for name, field in schema.get("properties", {}).items()
        }
        self.own = own
        self.values = {
            name: own.get(name, field.get("default")) for name, field in self.fields.items()
        }

    def own_values(self) -> dict[str, Any]:
        """The values that differ from the default, to be saved."""
        return {n: v for n, v in self.values.items() if v != self.fields[n].get("default")}

    def reset(self) -> None:
        """Set all values to their defaults."""
        self.values = {name: field.get("default") for name, field in self.fields.items()}


async def draw_parameters(page: OpenPage, capability: dict[str, Any]) -> None:
    """Draw the form, with its buttons where the key may change values."""
    client, editable = page.client, page.may("write:tenant")
    name, schema = capability["name"], capability["parameters"]
    if not schema or not schema.get("properties"):
        draw_empty("This capability has no parameters.")
        return
    form = ParameterForm(schema, (await client.platform.get_parameters(capability=name))["own"])
    ui.label(
        "The values in effect for your tenant. An experiment can vary each of them, "
        "and promoting its winner sets them."
    ).classes("sh-muted")
    errors: dict[str, ui.label] = {}

    @ui.refreshable
    def rows() -> None:
        errors.clear()
        card = ui.element("div").classes("sh-card w-full")
        with card.style("display:flex; flex-direction:column; gap:0; padding:4px 20px"):
            for i, (key, field) in enumerate(form.fields.items()):
                if i:
                    ui.element("div").classes("sh-rule")
                errors[key] = _draw_row(form, key, field, editable)

    async def save() -> None:
        for label in errors.values():
            label.set_visibility(False)
        try:
            saved = await client.platform.put_parameters(capability=name, body=form.own_values())
        except Invalid as error:
            for fault in error.errors:
                key = fault["location"].split(".")[0]
                if key in errors:
                    errors[key].set_text(sentence(plain_message(fault["message"])))
                    errors[key].set_visibility(True)
            ui.notify(describe_error(error), type="negative", multi_line=True)
            return
        form.own = saved["own"]
        rows.refresh()
        ui.notify("Saved. Takes effect within a second.", type="positive")

    def reset() -> None:
        form.reset()
        rows.refresh()

    rows()
    if editable:
        with ui.row().style("gap:10px"):
            ui.button("Save", on_click=save).props("unelevated")
            ui.button("Reset to defaults", on_click=reset).props("flat")
    else:
        ui.label("To change them, sign in with an editor's key.").classes("sh-muted")


def _draw_row(form: ParameterForm, name: str, field: Field, editable: bool) -> ui.label:
    """Draw one parameter and its control; returns the hidden label of its error."""
    default = f"default {_format_value(field['default'])}" if "default" in field else ""
    hint = " · ".join(part for part in (describe_bounds(field), default) if part)
    grid = ui.element("div").style(
        "display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 280px), 1fr)); "
        "gap:8px 24px; padding:16px 0; width:100%"
    )
    with grid:
        with ui.column().style("gap:2px"):
            with ui.row().classes("items-center").style("gap:8px"):
                ui.label(field.get("title") or name).classes("sh-h3")
                if name in form.own:
                    draw_pill("own value", "sh-good")
            ui.label(name).classes("sh-mono sh-muted")
            if field.get("description"):
                ui.label(field["description"]).classes("sh-muted").style("font-size:13.5px")
        with ui.column().style("gap:2px; min-width:0"):
            _draw_control(form, name, field, editable)
            ui.label(hint).classes("sh-muted").style("font-size:12.5px")
            error = ui.label().style("color:var(--sh-bad); font-size:13px")
            error.set_visibility(False)
    return error


def _format_value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _draw_control(form: ParameterForm, name: str, field: Field, editable: bool) -> None:
    """Draw the control for the field's type; other types are edited as JSON."""
    value, kind = form.values[name], field.get("type")

    def store(convert: Callable[[Any], Any] = lambda value: value) -> Callable[[Any], None]:
        def handle(event: Any) -> None:
            form.values[name] = convert(event.value)

        return handle

    control: Any
    if "enum" in field:
        control = ui.select(field["enum"], value=value, on_change=store())
        control.props("outlined dense").classes("w-full")
    elif kind == "boolean":
        control = ui.switch(value=bool(value), on_change=store())
    elif kind in ("number", "integer"):
        control = _draw_number(name, field, value, store, editable)
    elif kind == "string":
        empty = None if field.get("nullable") else ""
        control = ui.input(value=value or "", on_change=store(lambda text: text or empty))
        control.props("outlined dense").classes("w-full")
    else:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
        control = ui.textarea(value=text, on_change=store(parse_json)).classes("w-full")
        control.props("outlined dense autogrow input-class=sh-mono")
    control.props(f"aria-label={name}").set_enabled(editable)


def _draw_number(
    name: str,
    field: Field,
    value: Any,
    store: Callable[[Callable[[Any], Any]], Callable[[Any], None]],
    editable: bool,
) -> ui.number:
    """Draw a number, with a slider where it has both bounds."""
    is_integer = field["type"] == "integer"
    low, high = field.get("minimum"), field.get("maximum")
    bounds = None if low is None or high is None else (low, high)
    step = 1 if is_integer else (bounds[1] - bounds[0]) / 100 if bounds else 0.01

    def convert(number: Any) -> Any:
        return int(number) if is_integer and number is not None and number % 1 == 0 else number

    with ui.row().classes("items-center no-wrap w-full").style("gap:16px"):
        control = ui.number(value=value, on_change=store(convert), step=step)
        control.props("outlined dense").style("width:128px; flex:none")
        if bounds and value is not None:
            slider = ui.slider(min=bounds[0], max=bounds[1], step=step, value=value)
            slider.bind_value(control)
            slider.props(f"aria-label={name}").set_enabled(editable)
    return control


def parse_json(text: str) -> Any:
    """The value of a JSON text; the text itself if it is none.

    The platform then refuses it, with the reason.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
