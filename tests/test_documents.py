"""The OpenAPI documents hold for what the platform takes and sends."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from shoal.client.http import Client
from shoal.testing.app import CapabilityApp

from .test_bounds import ALL, CAPABILITIES


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
    hours = document(client, "optimizer")["components"]["schemas"]["WorkingHours"]["properties"]
    for side in hours.values():
        assert "format" not in side
        validator = Draft202012Validator(side)
        for text in ("09:00", "09:00:00", "23:59:59.250000"):
            assert validator.is_valid(text)
        for text in ("24:00", "9:00", "09:00Z", "09:00:00+01:00"):
            assert not validator.is_valid(text)
