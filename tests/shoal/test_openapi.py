"""The OpenAPI document of every capability, and whether the capability keeps to it."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from shoal import Role

CAPABILITIES = ("platform", "search", "features", "anomalies", "experiments", "optimizer")
EXAMPLES = int(os.environ.get("SHOAL_CONTRACT_EXAMPLES", "3"))
"""Valid and invalid requests per operation, each; `make test-contract` has more."""
NOT_HTTP = "Invalid HTTP request received."
"""What uvicorn answers, before any application."""
JUDGED_BY_ROW = {
    *("append_events", "add_items", "add_metrics", "add_people", "add_tasks", "add_outcomes"),
    *("push", "write_prometheus", "export_metrics"),
}
"""Operations that accept a batch and report its invalid rows."""
FILES = {"application/vnd.apache.parquet", "application/x-protobuf"}
"""Media types of bodies that no JSON schema describes."""

schemathesis.serializer.alias("application/x-protobuf", "application/octet-stream")


class Platform:
    """All capabilities, with the keys of an admin and of the operator."""

    def __init__(self, app: Any) -> None:
        self.address = app.address
        self._admin = app.key("contract", "admin")
        self._operator = app.run(app.platform.directory.create_key("platform", Role.admin))[1]

    def document(self, capability: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.address}/{capability}/openapi.json", timeout=60)
        return dict(answer.raise_for_status().json())

    def headers(self, operation: dict[str, Any]) -> dict[str, str]:
        is_operators = operation.get("x-shoal-right") == "admin:platform"
        return {"Authorization": f"Bearer {self._operator if is_operators else self._admin}"}


@pytest.fixture(scope="module")
def platform(shoal_app: Callable[..., Any]) -> Platform:
    return Platform(shoal_app(*CAPABILITIES[1:]))


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_document_says_what_is_sent(platform: Platform, capability: str) -> None:
    document = platform.document(capability)
    components = document["components"]
    assert {"apiKey", "jwt"} == set(components["securitySchemes"])
    assert document["security"] == [{"apiKey": []}, {"jwt": []}]
    assert not {"HTTPValidationError", "ValidationError"} & set(components["schemas"])
    Draft202012Validator.check_schema(components["schemas"]["Problem"])
    for methods in document["paths"].values():
        for operation in methods.values():
            check_operation(operation)


def check_operation(operation: dict[str, Any]) -> None:
    responses, id = operation["responses"], operation["operationId"]
    assert {"400", "401", "403", "422", "429", "503"} <= set(responses), id
    assert ("requestBody" in operation) == ({"413", "415"} <= set(responses)), id
    assert operation["x-shoal-right"], id
    assert "Shoal-User" in {p["name"] for p in operation["parameters"]}, id
    for status, response in responses.items():
        if status >= "400":
            assert response == {"$ref": f"#/components/responses/{status}"}, id
        else:
            assert "X-Request-ID" in response["headers"], id


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_success_says_what_its_body_holds(platform: Platform, capability: str) -> None:
    """Objects name their fields; what is open says what its values are."""
    document = platform.document(capability)
    faults: set[str] = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status < "300":
                    faults |= body_faults(document, operation["operationId"], status, response)
    assert not faults, "\n".join(sorted(faults))


def body_faults(
    document: dict[str, Any], id: str, status: str, response: dict[str, Any]
) -> set[str]:
    content = response.get("content", {})
    if not content and status != "204":
        return {f"{id}: {status} has no content"}
    return {
        fault
        for media_type, body in content.items()
        if media_type not in FILES
        for fault in open_parts(document, body["schema"], id, set())
    }


def open_parts(
    document: dict[str, Any], schema: dict[str, Any], place: str, seen: set[str]
) -> Iterator[str]:
    """The parts of a schema that allow anything without saying what it is."""
    if name := schema.get("$ref", "").rpartition("/")[2]:
        if name not in seen:
            seen.add(name)
            yield from open_parts(document, document["components"]["schemas"][name], name, seen)
        return
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    patterns = schema.get("patternProperties", {})
    if properties and more is None:
        yield f"{place}: does not say whether it has other fields"
    typed = {"const", "enum", "anyOf", "oneOf", "allOf"} & set(schema)
    is_open = not typed and schema.get("type", "object") == "object" and not properties | patterns
    if is_open and not isinstance(more, dict) and "description" not in schema:
        yield f"{place}: may be anything"
    inner = [*properties.items(), *patterns.items(), ("*", more), ("items", schema.get("items"))]
    if "description" not in schema:
        inner += [("anyOf", part) for part in schema.get("anyOf", ())]
    for key, part in inner:
        if isinstance(part, dict) and not (key == "*" and "description" in schema):
            yield from open_parts(document, part, f"{place}.{key}", seen)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_for_now_says_when_to_try_again(platform: Platform, status: int) -> None:
    response = platform.document("search")["components"]["responses"][str(status)]
    assert "Retry-After" in response["headers"]


def test_a_put_links_to_what_may_follow(platform: Platform) -> None:
    paths = platform.document("experiments")["paths"]
    links = paths["/experiments/{id}"]["put"]["responses"]["200"]["links"]
    assert {"get", "delete", "start", "propose", "results"} <= set(links) - {"draft"}
    assert links["start"] == {
        "operationId": "start",
        "parameters": {"path.id": "$request.path.id"},
    }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_capability_keeps_to_its_document(
    platform: Platform, capability: str, mode: GenerationMode
) -> None:
    """Status, media type, schema and headers of responses; refusal of invalid data, of
    unknown methods, and of requests without a credential.
    """
    schema = schemathesis.openapi.from_dict(platform.document(capability))
    faults = []
    for found in schema.get_all_operations():
        operation = found.ok()
        try:
            check_examples(platform, operation, mode)
        except BaseExceptionGroup as error:
            faults.append(f"{operation.label}: {error}")
    assert not faults, "\n\n".join(faults)


def check_examples(platform: Platform, operation: Any, mode: GenerationMode) -> None:
    raw = operation.definition.raw
    headers = platform.headers(raw)
    excluded: list[CheckFunction] = [positive_data_acceptance]  # a schema cannot say everything
    if raw["operationId"] in JUDGED_BY_ROW:
        excluded.append(negative_data_rejection)
    if mode is GenerationMode.NEGATIVE and not can_be_wrong(raw):
        return
    strategy = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def call(case: Case) -> None:
        for name in ("Shoal-User", "Shoal-Session"):  # others see less, and find less
            case.headers.pop(name, None)
        response = case.call(base_url=platform.address, headers=headers)
        if response.text == NOT_HTTP:  # an address that no request line can have
            return
        too_long = [negative_data_rejection] if response.status_code in (413, 414) else []
        case.validate_response(response, headers=headers, excluded_checks=excluded + too_long)

    call()


def can_be_wrong(operation: dict[str, Any]) -> bool:
    """Whether any text at all is valid for the operation."""
    bodies = operation.get("requestBody", {}).get("content", {})
    query = [p for p in operation["parameters"] if p["in"] == "query"]
    return bool(query) or any(body["schema"] for body in bodies.values())
