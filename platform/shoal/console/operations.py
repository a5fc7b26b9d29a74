"""A capability's HTTP operations, from its OpenAPI: what there is, what it takes, and
how to call it.
"""

from typing import Any

from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.operations import OperationRequest

from .frame import empty

VERBS = ("get", "post", "put", "patch", "delete")


async def operations(client: AsyncClient, capability: str) -> None:
    """Every operation, unfolding into its parameters and examples for curl and Python."""
    described: dict[str, Any] = await client.request(
        OperationRequest("GET", f"/{capability}/openapi.json")
    )
    found = [
        (verb, path, o)
        for path, verbs in described.get("paths", {}).items()
        for verb, o in verbs.items()
        if verb in VERBS
    ]
    if not found:
        empty("This capability has no operations.")
        return
    ui.html(
        f'<span class="sh-muted">Base path <span class="sh-mono">/{capability}</span> · <a class="sh-link" href="/{capability}/openapi.json">openapi.json</a></span>',
        sanitize=False,
    )
    with ui.element("div").classes("sh-card w-full").style("padding:6px 0"):
        for verb, path, operation in found:
            with ui.expansion().classes("w-full").props("dense-toggle expand-separator") as item:
                with (
                    item.add_slot("header"),
                    ui.row()
                    .classes("items-center no-wrap w-full")
                    .style("gap:12px; padding:4px 0; min-width:0; overflow:hidden"),
                ):
                    ui.label(verb.upper()).classes(f"sh-verb sh-{verb}")
                    ui.label(path).classes("sh-mono").style(
                        "font-weight:600; flex:0 1 auto; min-width:max-content"
                    )
                    ui.label(first_line(operation)).classes("sh-muted gt-sm ellipsis").style(
                        "min-width:0"
                    )
                detail(capability, verb, path, operation, described)


def first_line(operation: dict[str, Any]) -> str:
    return (
        str(operation.get("description") or operation.get("summary") or "").strip().split("\n")[0]
    )


def detail(
    capability: str, verb: str, path: str, operation: dict[str, Any], described: dict[str, Any]
) -> None:
    with ui.column().classes("w-full").style("gap:10px; padding:0 4px 8px"):
        ui.label(operation.get("description") or operation.get("summary") or "").style(
            "white-space:pre-line"
        )
        for parameter in operation.get("parameters", ()):
            if parameter["in"] in ("path", "query"):
                with ui.row().classes("items-baseline").style("gap:10px; font-size:14px"):
                    ui.label(parameter["name"]).classes("sh-mono").style(
                        "font-weight:600; min-width:120px"
                    )
                    ui.label(type_of(parameter.get("schema", {}))).classes("sh-mono sh-muted")
                    if parameter.get("required"):
                        ui.label("required").classes("sh-muted")
                    ui.label(parameter.get("description") or "")
        body = (
            operation.get("requestBody", {})
            .get("content", {})
            .get("application/json", {})
            .get("schema")
        )
        if body:
            ui.label(f"Body: {type_of(body)}").classes("sh-mono sh-muted")
        required = [
            p["name"]
            for p in operation.get("parameters", ())
            if p["in"] == "query" and p.get("required")
        ]
        inside = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"]
        arguments = ", ".join(
            [
                *(f'{name}="..."' for name in inside + required),
                *(["body=..."] if body is not None else []),
            ]
        )
        ui.code(
            f"client.{capability}.{operation.get('operationId', '')}({arguments})",
            language="python",
        ).classes("w-full")
        ui.code(curl(verb, path, required, body is not None), language="bash").classes("w-full")


def curl(verb: str, path: str, required: list[str], body: bool) -> str:
    """The command for a shell that knows SHOAL_KEY and SHOAL_ADDRESS."""
    method = "" if verb == "get" else f" -X {verb.upper()}"
    data = " -H 'Content-Type: application/json' -d @body.json" if body else ""
    query = "?" + "&".join(f"{name}=..." for name in required) if required else ""
    return f'curl -H "Authorization: Bearer $SHOAL_KEY"{method}{data} "$SHOAL_ADDRESS{path}{query}"'


def type_of(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words: "string", "list of Item", "one of a, b"."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "enum" in schema:
        return "one of " + ", ".join(str(v) for v in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(
            dict.fromkeys(type_of(s) for s in schema["anyOf"] if s.get("type") != "null")
        )
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any JSON")
