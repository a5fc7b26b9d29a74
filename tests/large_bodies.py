"""Large bodies for every operation, and how long they keep the event loop."""

import asyncio
import http.client
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson

from shoal.contract.batch import MAX_COMMAS
from shoal.contract.bounds import MAX_KEYS
from shoal.contract.operations import Operation
from shoal.router.route_guard import JSON_BYTES
from shoal.tenants.records import DEFAULT_LIMITS
from shoal.testing.app import CapabilityApp

CAPABILITIES = ("anomalies", "experiments", "features", "optimizer", "search")
BODY_BYTES = DEFAULT_LIMITS.body_bytes or 0

Schema = Mapping[str, Any]


class LoopWatch:
    """Measures the longest turn of an app's event loop.

    Args:
        app: Whose loop it is.
        *clocks: Of a turn counts the time that passed on all of them.

    Attributes:
        longest: In seconds.
    """

    TICK = 0.001

    def __init__(self, app: CapabilityApp, *clocks: Callable[[], float]) -> None:
        self.longest = 0.0
        self._app, self._clocks = app, clocks

    def __enter__(self) -> "LoopWatch":
        self._task: Future[None] = asyncio.run_coroutine_threadsafe(self._watch(), self._app.loop)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._app.loop).result()

    async def _stop(self) -> None:
        await asyncio.sleep(5 * self.TICK)  # until it has measured what was before
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            began = [clock() for clock in self._clocks]
            await asyncio.sleep(self.TICK)
            passed = min(c() - b for c, b in zip(self._clocks, began, strict=True))
            self.longest = max(self.longest, passed)


def post(
    app: CapabilityApp, operation: Operation, body: bytes, content_type: str
) -> http.client.HTTPResponse:
    """The response to a body, as an admin without a user sends it."""
    address = urlsplit(app.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    path = operation.path
    for name in operation.in_path:
        path = path.replace("{" + name + "}", "x1")
    headers = {
        "authorization": f"Bearer {app.key('acme', 'admin')}",
        "content-type": content_type,
    }
    try:
        connection.request(operation.method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def largest(schema: Schema, definitions: Schema, budget: int, count: Iterator[int]) -> Any:
    """A value with as many items and as long texts as a schema and a budget allow.

    Args:
        schema: A JSON schema.
        definitions: What it refers to.
        budget: About how many bytes of JSON the value may have.
        count: Makes texts differ.
    """
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return largest(schema[key][0], definitions, budget, count)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type", "object" if "properties" in schema else None)
    if kind == "array":
        size = len(orjson.dumps(largest(schema["items"], definitions, 1, count))) + 1
        items = max(schema.get("minItems", 0), min(schema["maxItems"], budget // size))
        share = budget // max(items, 1) - 1
        return [largest(schema["items"], definitions, share, count) for _ in range(items)]
    if kind == "object":
        named = dict(schema.get("properties", {}))
        if budget < 50 * len(named):
            named = {n: s for n, s in named.items() if n in schema.get("required", ())}
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            size = len(orjson.dumps(largest(more, definitions, 1, count))) + 12
            named |= {
                f"k{next(count)}": more for _ in range(min(schema["maxProperties"], budget // size))
            }
        share = budget // max(len(named), 1) - 20
        return {n: largest(s, definitions, share, count) for n, s in named.items()}
    if kind in ("integer", "number"):
        value = schema.get("default", schema.get("minimum", schema.get("exclusiveMinimum", 0)))
        return max(1, value) if schema.get("maximum", math.inf) >= 1 else 0.5
    if kind == "string":
        if schema.get("format") in ("date-time", "date", "time"):
            return {"date-time": now(), "date": now()[:10], "time": "10:00"}[schema["format"]]
        text = f"x{next(count)}"
        return text.ljust(min(schema.get("maxLength", 16), max(budget - 2, len(text))), "x")
    return {"boolean": False, None: {"a": 1}}.get(kind)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def allowed_bodies(document: Schema, operation: Operation) -> Iterator[tuple[str, str, bytes]]:
    """The largest bodies that an operation allows: many items, and long ones."""
    definitions = document.get("components", {}).get("schemas", {})
    spec = document["paths"][operation.path][operation.method.lower()]
    content = spec["requestBody"]["content"]
    for kind, part in content.items():
        if kind != "application/json":
            continue
        schema = part["schema"]
        by_rows = len(content) > 1 or "$ref" not in schema
        full = 8 * 2**20 if by_rows else JSON_BYTES - 2_000
        for name, budget in (("many", min(full, 500_000)), ("long", full)):
            value = largest(schema, definitions, budget, itertools.count())
            yield name, kind, orjson.dumps(value)
            if by_rows and isinstance(value, list):
                yield f"{name} lines", "application/x-ndjson", b"\n".join(map(orjson.dumps, value))


def hostile_bodies(operation: Operation) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """What makes bodies that cost more to read than they are long."""
    json, lines = "application/json", "application/x-ndjson"
    some = b",".join(b'"%d":1' % n for n in range(MAX_KEYS))
    keys = b",".join(b'"%d":1' % n for n in range(JSON_BYTES // 11))
    yield "empty arrays", json, lambda: b"[" + b",".join([b"[]"] * (JSON_BYTES // 3 - 1)) + b"]"
    yield "the largest", json, lambda: b"[" + b",".join([b"[]"] * (BODY_BYTES // 3 - 1)) + b"]"
    yield "one text", json, lambda: b'"' + b"x" * (JSON_BYTES - 2) + b'"'
    yield "deep array", json, lambda: b"[" * BODY_BYTES
    yield "deep object", json, lambda: b'{"a":' * 900 + b"1" + b"}" * 900
    yield "unknown fields", json, lambda: b"{" + keys + b"}"
    yield "some unknown fields", json, lambda: b"{" + some + b"}"
    for field in sorted(operation.fields):
        start = b"{" + orjson.dumps(field) + b":"
        yield f"{field} of zeros", json, partial(bytes, start + b"[" + b"0," * 5_900 + b"0]}")
        yield f"{field} of fields", json, partial(bytes, start + b"{" + some + b"}}")
    if operation.fields:
        return
    yield "row of unknown fields", json, lambda: b"[{" + keys + b"}]"
    yield "as many rows as are split", json, lambda: b"[" + b",".join([b"{}"] * MAX_COMMAS) + b"]"
    yield "one large row", json, lambda: b'["' + b"x" * (BODY_BYTES - 4) + b'"]'
    yield "blank lines", lines, lambda: b"\n" * BODY_BYTES
    yield "empty rows", lines, lambda: b"{}\n" * (BODY_BYTES // 3)
    yield "empty cells", "text/csv", lambda: b"a,b\n" + b"," * (BODY_BYTES - 4)
    yield "cells", "text/csv", lambda: b"a,b\n" + b"1,2\n" * (BODY_BYTES // 4 - 1)
    yield "words", "text/plain", lambda: b"x " * (BODY_BYTES // 2)
    yield "lines of words", "text/plain", lambda: b"x a=1\n" * (BODY_BYTES // 6)
