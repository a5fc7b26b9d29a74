"""Every success that a capability answers in a test is held to its OpenAPI document."""

import re
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx
import jsonschema_rs
import orjson

Message = MutableMapping[str, Any]
NOT_OPERATIONS = ("/openapi.json", "/healthz")

_documents: dict[Callable[..., Any], dict[str, Any]] = {}
"""The document of a capability, by what makes its routes."""


class CheckedApplication:
    """An application that answers 500, with the fault, for a body unlike its document.

    Args:
        app: The application of a capability.
        document: Its OpenAPI document.
    """

    def __init__(self, app: Any, document: dict[str, Any]) -> None:
        self._app = app
        self._components = document["components"]
        self._operations = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)), method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self._validators: dict[tuple[str, int], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            """Send what is no JSON of success; hold the rest until it is complete."""
            if message["type"] == "http.response.start" and not _has_json(message):
                held.clear()
                await send(message)
            elif message["type"] == "http.response.start" or held:
                held.append(message)
                if message["type"] != "http.response.start" and not message.get("more_body"):
                    await self._send_checked(scope, held, send)
            else:
                await send(message)

        await self._app(scope, receive, hold)

    async def _send_checked(self, scope: Message, held: list[Message], send: Any) -> None:
        body = b"".join(message.get("body", b"") for message in held[1:])
        if fault := self._fault(scope, held[0]["status"], body):
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(fault))]
            start = {"type": "http.response.start", "status": 500, "headers": headers}
            held[:] = [start, {"type": "http.response.body", "body": fault}]
        for message in held:
            await send(message)

    def _fault(self, scope: Message, status: int, body: bytes) -> bytes:
        if scope["path"].endswith(NOT_OPERATIONS):
            return b""
        for path, method, operation in self._operations:
            if method == scope["method"] and path.fullmatch(scope["path"]):
                faults = list(self._validator(operation, status).iter_errors(orjson.loads(body)))
                found = "; ".join(f"{f.instance_path}: {f.message}" for f in faults[:5])
                return f"{operation['operationId']}: {found}".encode()[:4000] if faults else b""
        return b""

    def _validator(self, operation: dict[str, Any], status: int) -> Any:
        key = operation["operationId"], status
        if key not in self._validators:
            content = operation["responses"].get(str(status), {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", False)
            if isinstance(schema, dict):
                schema = {**schema, "components": self._components}
            self._validators[key] = jsonschema_rs.Draft202012Validator(schema)
        return self._validators[key]


def _has_json(start: Message) -> bool:
    kind = dict(start["headers"]).get(b"content-type", b"")
    return start["status"] in (200, 201, 202) and kind.startswith(b"application/json")


async def check_bodies(platform: Any) -> None:
    """Check the bodies of every capability of a `LocalPlatform`."""
    for name, served in platform.apps.items():
        if isinstance(served, CheckedApplication):
            continue
        routes = platform.capability(name).routes
        if routes not in _documents:
            transport = httpx.ASGITransport(served)
            async with httpx.AsyncClient(transport=transport, base_url="http://shoal") as client:
                _documents[routes] = (await client.get(f"/{name}/openapi.json")).json()
        platform.apps[name] = CheckedApplication(served, _documents[routes])
