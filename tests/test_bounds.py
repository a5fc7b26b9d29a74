"""Every value of every request has a bound, and no body delays the other requests."""

import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from shoal.api.events import MAX_EVENTS, read_events
from shoal.contract import batch
from shoal.contract.events import Event
from shoal.contract.operations import Operation, operations
from shoal.runtime.replica import freeze_objects
from shoal.testing.app import CapabilityApp

from .large_bodies import (
    CAPABILITIES,
    LoopWatch,
    Schema,
    allowed_bodies,
    hostile_bodies,
    largest,
    post,
)

ALL = ("platform", *CAPABILITIES)
TRIES = 6
THOROUGH = "SHOAL_THOROUGH" in os.environ
REQUEST_SECONDS = 3
"""A request that takes longer ends with 503; what counts here is whom it delays."""


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
    return shoal_app(*CAPABILITIES, router={"limits": {"seconds": REQUEST_SECONDS}})


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


def loop_seconds(
    app: CapabilityApp, operation: Operation, body: bytes, kind: str, enough: float = 0
) -> float:
    """The loop's own CPU time in its longest turn, in the best of a few tries.

    What other threads and processes take does not count, nor how fast the machine is:
    it is compared with `reading_seconds`.
    """
    best = float("inf")
    for _ in range(TRIES):
        with LoopWatch(app, time.thread_time) as watch:
            status = post(app, operation, body, kind).status
        assert status < 500 or status == 503, (operation.id, kind, status)
        best = min(best, watch.longest)
        if best <= enough:
            break
    return best


def many_events() -> bytes:
    """The largest body of events."""
    row = Event.model_json_schema()
    schema = {"type": "array", "maxItems": MAX_EVENTS, "items": row}
    return orjson.dumps(largest(schema, row.get("$defs", {}), 5_000_000, itertools.count()))


def reading_seconds() -> float:
    """The CPU time of reading a large body whole: what no turn of the loop may cost."""
    took, body = [], many_events()
    for _ in range(5):
        began = time.thread_time()
        read_events(body, "application/json")
        took.append(time.thread_time() - began)
    return statistics.median(took)


@pytest.fixture
def frozen() -> Iterator[None]:
    """The garbage collector does not look at what was made before, as in a replica."""
    freeze_objects()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", ALL)
def test_no_body_is_read_on_the_loop(app: CapabilityApp, name: str) -> None:
    document, whole = app.document(name), reading_seconds()
    with_body = [o for o in operations(document).values() if o.has_body]
    slow = []
    for turn, operation in enumerate(with_body, ALL.index(name)):
        for label, kind, body in chosen_bodies(document, operation, turn):
            took = loop_seconds(app, operation, body, kind, enough=whole / 2)
            if took > whole / 2:
                slow.append(
                    f"{operation.id}, {label} ({len(body):,} bytes): a turn of the loop took "
                    f"{took / whole:.2f} of the time to read a large body whole"
                )
    assert not slow, "\n".join(slow)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("platform", "append_events"),
        ("search", "add_items"),
        ("anomalies", "add_metrics"),
        ("optimizer", "add_outcomes"),
    ],
)
def test_a_body_read_on_the_loop_is_found(
    app: CapabilityApp, monkeypatch: pytest.MonkeyPatch, name: str, operation: str
) -> None:
    async def at_once(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    monkeypatch.setattr(batch.asyncio, "to_thread", at_once)
    document = app.document(name)
    bodies = allowed_bodies(document, chosen := operations(document)[operation])
    kind, body = next((kind, body) for label, kind, body in bodies if label == "long")
    assert loop_seconds(app, chosen, body, kind) > reading_seconds() / 2
