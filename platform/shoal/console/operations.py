"""A capability's HTTP operations on the console, drawn from its OpenAPI."""

from html import escape
from typing import Any

from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.operations import OperationRequest

from .elements import draw_empty

VERBS = ("get", "post", "put", "patch", "delete")


async def draw_operations(client: AsyncClient, capability: str) -> None:
    """Draw every operation; each expands to its parameters and examples."""
    described: dict[str, Any] = await client.request(
        OperationRequest("GET", f"/{capability}/openapi.json")
    )
    found = [
        (verb, path, operation)
        for path, verbs in described.get("paths", {}).items()
        for verb, operation in verbs.items()
        if verb in VERBS
    ]
    if not found:
        draw_empty("This capability has no operations.")
        return
    ui.html(
        f'<span class="sh-muted">Base path <span class="sh-mono">/{capability}</span> · '
        f'<a class="sh-link" href="/{capability}/openapi.json">openapi.json</a></span>',
        sanitize=False,
    )
    with ui.element("div").classes("sh-card w-full").style("padding:6px 0"):
        for verb, path, operation in found:
            with ui.expansion().classes("w-full").props("dense-toggle expand-separator") as item:
                summary = _description(operation).split("\n")[0]
                item.props["toggle-aria-label"] = f"{verb.upper()} {path} {summary}"
                with item.add_slot("header"):
                    _draw_header(verb, path, operation)
                _draw_details(capability, verb, path, operation)


def _draw_header(verb: str, path: str, operation: dict[str, Any]) -> None:
    # As one text, with spaces between: together they are the row's label.
    summary = escape(_description(operation).split("\n")[0])
    row = ui.html(
        f'<span class="sh-verb sh-{verb}">{verb.upper()}</span> '
        f'<span class="sh-mono" style="font-weight:600; min-width:max-content">{escape(path)}'
        f'</span> <span class="sh-muted gt-sm ellipsis" style="min-width:0">{summary}</span>',
        sanitize=False,
    )
    row.classes("row items-center no-wrap w-full")
    row.style("gap:12px; padding:4px 0; min-width:0; overflow:hidden")


def _draw_details(capability: str, verb: str, path: str, operation: dict[str, Any]) -> None:
    parameters = operation.get("parameters", ())
    content = operation.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {}).get("schema")
    in_path = [p["name"] for p in parameters if p["in"] == "path"]
    required = [p["name"] for p in parameters if p["in"] == "query" and p.get("required")]
    with ui.column().classes("w-full").style("gap:10px; padding:0 4px 8px"):
        ui.label(_description(operation)).style("white-space:pre-line")
        for parameter in parameters:
            if parameter["in"] in ("path", "query"):
                _draw_parameter(parameter)
        if body:
            ui.label(f"Body: {describe_type(body)}").classes("sh-mono sh-muted")
        arguments = [f'{name}="..."' for name in in_path + required]
        if body is not None:
            arguments.append("body=...")
        call = f"client.{capability}.{operation.get('operationId', '')}({', '.join(arguments)})"
        ui.code(call, language="python").classes("w-full")
        command = curl_command(verb, path, required, body is not None)
        ui.code(command, language="bash").classes("w-full")


def _draw_parameter(parameter: dict[str, Any]) -> None:
    with ui.row().classes("items-baseline").style("gap:10px; font-size:14px"):
        name = ui.label(parameter["name"]).classes("sh-mono")
        name.style("font-weight:600; min-width:120px")
        ui.label(describe_type(parameter.get("schema", {}))).classes("sh-mono sh-muted")
        if parameter.get("required"):
            ui.label("required").classes("sh-muted")
        ui.label(parameter.get("description") or "")


def _description(operation: dict[str, Any]) -> str:
    return str(operation.get("description") or operation.get("summary") or "").strip()


def curl_command(verb: str, path: str, required: list[str], has_body: bool) -> str:
    """A command that calls an operation, using SHOAL_KEY and SHOAL_ADDRESS.

    `required` are the names of the required query parameters.
    """
    method = "" if verb == "get" else f" -X {verb.upper()}"
    data = " -H 'Content-Type: application/json' -d @body.json" if has_body else ""
    query = "?" + "&".join(f"{name}=..." for name in required) if required else ""
    return f'curl -H "Authorization: Bearer $SHOAL_KEY"{method}{data} "$SHOAL_ADDRESS{path}{query}"'


def describe_type(schema: dict[str, Any]) -> str:
    """A JSON schema in words: "string", "list of Item", "one of a, b"."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "enum" in schema:
        return "one of " + ", ".join(str(v) for v in schema["enum"])
    if "anyOf" in schema:
        options = [describe_type(s) for s in schema["anyOf"] if s.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if schema.get("type") == "array":
        return f"list of {describe_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any JSON")
