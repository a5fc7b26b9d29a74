"""Every value of every request has a bound, and no body delays the other requests."""

import asyncio
import gc
import http.client
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from shoal.contract.batch import MAX_COMMAS
from shoal.contract.bounds import MAX_KEYS
from shoal.contract.operations import Operation, operations
from shoal.router.route_guard import JSON_BYTES
from shoal.runtime.replica import freeze_objects
from shoal.tenants.records import DEFAULT_LIMITS
from shoal.testing.app import CapabilityApp

CAPABILITIES = ("anomalies", "experiments", "features", "optimizer", "search")
ALL = ("platform", *CAPABILITIES)
BLOCKED_SECONDS = 0.05
TRIES = 6
THOROUGH = "SHOAL_THOROUGH" in os.environ
BODY_BYTES = DEFAULT_LIMITS.body_bytes or 0
REQUEST_SECONDS = 3
"""A request that takes longer ends with 503; what counts here is whom it delays."""

Schema = Mapping[str, Any]


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
    return shoal_app(*CAPABILITIES, router={"limits": {"seconds": REQUEST_SECONDS}})


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


# Every value has a bound


def unbounded(schema: Schema, definitions: Schema, path: str, above: tuple[str, ...] = ()) -> Any:
    """The places in a schema where a value has no bound."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if name not in above:
            yield from unbounded(definitions[name], definitions, path, (*above, name))
        return
    inner = [s for k in ("anyOf", "oneOf", "allOf") for s in schema.get(k, ())]
    for part in inner:
        yield from unbounded(part, definitions, path, above)
    kind = schema.get("type", "object" if "properties" in schema else None)
    if inner or kind in ("boolean", "null") or "enum" in schema or "const" in schema:
        return
    if kind == "array":
        if "maxItems" not in schema:
            yield f"{path}: an array without maxItems"
        for part in (*schema.get("prefixItems", ()), *filter(None, [schema.get("items")])):
            yield from unbounded(part, definitions, f"{path}[]", above)
    elif kind == "string":
        if not {"maxLength", "format", "pattern"} & set(schema):
            yield f"{path}: a string without maxLength"
        elif "maxLength" not in schema and "pattern" in schema and "{" not in schema["pattern"]:
            yield f"{path}: a string whose pattern has no length"
    elif kind in ("integer", "number"):
        if not {"minimum", "exclusiveMinimum"} & set(schema):
            yield f"{path}: a number without minimum"
        if not {"maximum", "exclusiveMaximum"} & set(schema):
            yield f"{path}: a number without maximum"
    elif kind == "object":
        for name, part in schema.get("properties", {}).items():
            yield from unbounded(part, definitions, f"{path}.{name}", above)
        yield from _unbounded_fields(schema, definitions, path, above)
    elif "x-shoal-bytes" not in schema:
        yield f"{path}: any value, without x-shoal-bytes"


def _unbounded_fields(
    schema: Schema, definitions: Schema, path: str, above: tuple[str, ...]
) -> Any:
    """The places among the fields that a schema does not name."""
    more = schema.get("additionalProperties", "properties" not in schema)
    if more is False:
        return
    if "maxProperties" not in schema and more:
        yield f"{path}: an object without maxProperties"
    if isinstance(more, dict):
        yield from unbounded(more, definitions, f"{path}{{}}", above)
        names = schema.get("propertyNames", {})
        if not {"maxLength", "enum", "pattern"} & set(names):
            yield f"{path}: names of fields without maxLength"


@pytest.mark.parametrize("name", ALL)
def test_every_value_of_a_request_has_a_bound(app: CapabilityApp, name: str) -> None:
    document = app.document(name)
    definitions = document.get("components", {}).get("schemas", {})
    found = []
    for path, methods in document["paths"].items():
        for method, spec in methods.items():
            content = spec.get("requestBody", {}).get("content", {})
            parts = [(f"{p['in']} {p['name']}", p["schema"]) for p in spec.get("parameters", ())]
            parts += [(kind, c["schema"]) for kind, c in content.items()]
            for part, schema in parts:
                found += unbounded(schema, definitions, f"{method.upper()} {path} {part}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "boolean"}},
        {"type": "array", "maxItems": 3, "items": {"type": "string"}},
        {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0}]},
        {"type": "object"},
        {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "boolean"}},
        {"properties": {"a": {"$ref": "#/components/schemas/A"}}},
        {},
    ],
)
def test_a_value_without_a_bound_is_found(schema: Schema) -> None:
    assert list(unbounded(schema, {"A": {"type": "number"}}, "body"))


# No body delays the others


class LoopWatch:
    """Measures how long the app's event loop was blocked at a stretch, in seconds.

    Of a stretch counts what passed both on the clock and of this process's CPU time,
    so that a loaded machine does not count.
    """

    TICK = 0.001

    def __init__(self, app: CapabilityApp) -> None:
        self.longest = 0.0
        self._app = app

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
            clock, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(self.TICK)
            passed = min(time.perf_counter() - clock - self.TICK, time.process_time() - cpu)
            self.longest = max(self.longest, passed)


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


def chosen_bodies(
    document: Schema, operation: Operation, turn: int
) -> Iterator[tuple[str, str, bytes]]:
    """The bodies that an operation is tried with.

    They are the largest allowed ones and one hostile one, each operation's the next in
    turn, or all with `SHOAL_THOROUGH=1`.
    """
    yield from allowed_bodies(document, operation)
    hostile = list(hostile_bodies(operation))
    for label, kind, make in hostile if THOROUGH else [hostile[turn % len(hostile)]]:
        yield label, kind, make()


def blocked_seconds(app: CapabilityApp, operation: Operation, body: bytes, kind: str) -> float:
    """How long a body blocked the loop, in the best of a few tries."""
    blocked = math.inf
    for _ in range(TRIES):
        with LoopWatch(app) as watch:
            status = post(app, operation, body, kind).status
        assert status < 500 or status == 503, (operation.id, kind, status)
        blocked = min(blocked, watch.longest)
        if blocked <= BLOCKED_SECONDS:
            break
    return blocked


@pytest.fixture
def frozen() -> Iterator[None]:
    """The garbage collector does not look at what was made before, as in a replica."""
    freeze_objects()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", ALL)
def test_no_body_blocks_the_loop(app: CapabilityApp, name: str) -> None:
    document = app.document(name)
    with_body = [o for o in operations(document).values() if o.has_body]
    slow = []
    for turn, operation in enumerate(with_body, ALL.index(name)):
        for label, kind, body in chosen_bodies(document, operation, turn):
            blocked = blocked_seconds(app, operation, body, kind)
            if blocked > BLOCKED_SECONDS:
                slow.append(f"{operation.id}, {label} ({len(body):,} bytes): {blocked:.3f} s")
    assert not slow, "\n".join(slow)
