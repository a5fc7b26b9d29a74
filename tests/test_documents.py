"""The OpenAPI documents hold for what the platform takes and sends."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from shoal.client.http import Client
from shoal.contract.errors import Invalid
from shoal.contract.operations import OperationRequest
from shoal.testing.app import CapabilityApp
from shoal_features.datasets import NAME

from .test_bounds import ALL, CAPABILITIES

JSON = (("content-type", "application/json"),)


@pytest.fixture(scope="module")
def client(shoal_app: Callable[..., CapabilityApp]) -> Iterator[Client]:
    app = shoal_app(*CAPABILITIES)
    with Client(app.address, key=app.key("acme", "admin")) as client:
        yield client


def document(client: Client, capability: str) -> dict[str, Any]:
    found: dict[str, Any] = client._http.get(f"/{capability}/openapi.json").json()  # type: ignore[union-attr]
    return found


def with_default(value: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a document that has a default, with its path."""
    if isinstance(value, dict):
        if "default" in value and "properties" not in path.rsplit("/", 1)[-1]:
            yield path, value
        for name, part in value.items():
            yield from with_default(part, f"{path}/{name}")
    elif isinstance(value, list):
        for n, part in enumerate(value):
            yield from with_default(part, f"{path}/{n}")


@pytest.mark.parametrize("capability", ALL)
def test_every_default_is_valid_in_its_schema(client: Client, capability: str) -> None:
    whole = document(client, capability)
    registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(whole))
    checked = 0
    for path, schema in with_default(whole):
        schema = _absolute(schema)
        errors = list(
            Draft202012Validator(schema, registry=registry).iter_errors(schema["default"])
        )
        assert not errors, f"{path}: {errors[0].message}"
        checked += 1
    assert checked


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: f"urn:document{v}" if k == "$ref" else _absolute(v) for k, v in schema.items()}
    return [_absolute(part) for part in schema] if isinstance(schema, list) else schema


def test_local_times_have_no_format(client: Client) -> None:
    schemas = document(client, "optimizer")["components"]["schemas"]
    hours = [v["properties"] for k, v in schemas.items() if k.startswith("WorkingHours")]
    assert hours
    for side in (side for properties in hours for side in properties.values()):
        assert "format" not in side
        validator = Draft202012Validator(side)
        for text in ("09:00", "09:00:00", "23:59:59.250000"):
            assert validator.is_valid(text)
        for text in ("24:00", "9:00", "09:00Z", "09:00:00+01:00"):
            assert not validator.is_valid(text)


def test_names_of_data_sets_are_described_as_they_are_checked(client: Client) -> None:
    operations = document(client, "features")["paths"]["/features/datasets/{name}"]
    for operation in operations.values():
        (name,) = [p["schema"] for p in operation["parameters"] if p["name"] == "name"]
        assert name["pattern"] == f"^{NAME.pattern}$"


@pytest.mark.parametrize(
    ("method", "path", "body", "location"),
    [
        ("GET", "/features?usr=ana&features=actions", None, "query.usr"),
        ("GET", "/features?features=actions", None, "query"),
        ("POST", "/features/batch", {"entity": "usr", "ids": ["a"], "features": ["x"]}, "entity"),
        ("GET", "/platform/usage?from=2026-02-02&to=2026-02-01", None, "query.from"),
        (
            "POST",
            "/platform/events/replay",
            {"group": "features.windows", "ids": ["0-1", "x"]},
            "ids.1",
        ),
        ("POST", "/search/items", [1] * 10_001, "body"),
    ],
)
def test_a_fault_is_located_where_it_was_sent(
    client: Client, method: str, path: str, body: Any, location: str
) -> None:
    with pytest.raises(Invalid) as refused:
        path, _, query = path.partition("?")
        sent = orjson.dumps(body) if body else b""
        client.request(OperationRequest(method, path, tuple(parse_qsl(query)), sent, JSON))
    assert [fault["location"] for fault in refused.value.errors] == [location]
