"""Checks any capability against the contract. Subclass it in your tests:

from shoal.testing.conformance import Conformance

class TestConformance(Conformance):
    capability = "greeting"
"""

import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from shoal.contract.operations import Operation, operations

from .app import CapabilityApp
from .http_conformance import HTTPConformance, bearer, describe, filled_path


class Conformance(HTTPConformance):
    """The tests read the capability's OpenAPI document, so they fit any capability."""

    capability: str

    @pytest.fixture(scope="class")
    @classmethod
    def app(cls, shoal_app: Callable[..., CapabilityApp]) -> Iterator[CapabilityApp]:
        yield shoal_app(cls.capability)

    @pytest.fixture(scope="class")
    @classmethod
    def http(cls, app: CapabilityApp) -> Iterator[httpx.Client]:
        """A client without a credential."""
        with httpx.Client(base_url=app.address, timeout=60) as http:
            yield http

    @pytest.fixture(scope="class")
    @classmethod
    def all_operations(cls, http: httpx.Client) -> list[Operation]:
        """All operations of the capability."""
        return list(operations(http.get(f"/{cls.capability}/openapi.json").json()).values())

    def test_operation_ids_are_names_for_methods(self, http: httpx.Client) -> None:
        ids = list(operations(http.get(f"/{self.capability}/openapi.json").json()))
        assert ids and all(i.isidentifier() and not i.startswith("_") for i in ids)

    def test_nothing_answers_without_a_credential(
        self, http: httpx.Client, all_operations: list[Operation]
    ) -> None:
        for operation in all_operations:
            answer = http.request(operation.method, filled_path(operation))
            assert answer.status_code == 401, describe(operation, answer)
            assert answer.headers["content-type"].startswith("application/problem+json")

    def test_a_tenant_in_the_query_must_be_the_credentials(
        self, app: CapabilityApp, http: httpx.Client, all_operations: list[Operation]
    ) -> None:
        app.key("globex")
        for operation in all_operations:
            answer = http.request(
                operation.method,
                filled_path(operation),
                params={"tenant": "globex"},
                headers=bearer(app, "admin"),
            )
            assert answer.status_code == 403, describe(operation, answer)

    def test_a_reader_may_change_nothing(
        self, app: CapabilityApp, http: httpx.Client, all_operations: list[Operation]
    ) -> None:
        for operation in all_operations:
            if not operation.safe:
                answer = http.request(
                    operation.method,
                    filled_path(operation),
                    headers=bearer(app, "reader", "ana"),
                    json={},
                )
                assert answer.status_code == 403, describe(operation, answer)

    def test_users_reach_nothing_of_the_whole_tenant(
        self, app: CapabilityApp, http: httpx.Client
    ) -> None:
        paths = http.get(f"/{self.capability}/openapi.json").json()["paths"]
        for path, methods in paths.items():
            for method, spec in methods.items():
                if not spec["x-shoal-right"].endswith((":tenant", ":platform")):
                    continue
                answer = http.request(
                    method,
                    re.sub(r"\{[^}]+\}", "x", path),
                    headers=bearer(app, "editor", "ana"),
                )
                assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[1, NaN]",
            b"\xff\xfe",
            b'{"a": "\\u0000"}',
            b"null",
            b"[[[[]]]]",
            b'"' + b"x" * 100_000 + b'"',
        ],
    )
    def test_a_hostile_body_is_never_a_500(
        self, app: CapabilityApp, http: httpx.Client, all_operations: list[Operation], body: bytes
    ) -> None:
        headers = bearer(app, "admin") | {"content-type": "application/json"}
        for operation in all_operations:
            if operation.method in ("POST", "PUT", "PATCH"):
                answer = http.request(
                    operation.method, filled_path(operation), headers=headers, content=body
                )
                assert answer.status_code < 500, describe(operation, answer)

    @pytest.mark.parametrize(
        "value",
        [
            "%00",
            "%0a",
            "..%2f..%2fetc",
            "%f0%9f%92%a5",
            "a" * 3000,
            "%7b%7d%3a%2a",
            "-1",
            "NaN",
            "1e999",
        ],
    )
    def test_a_hostile_path_or_query_is_never_a_500(
        self, app: CapabilityApp, http: httpx.Client, all_operations: list[Operation], value: str
    ) -> None:
        for operation in all_operations:
            query = "&".join(f"{name}={value}" for name in sorted(operation.query))
            answer = http.request(
                operation.method,
                f"{filled_path(operation, value)}?{query}",
                headers=bearer(app, "admin"),
            )
            assert answer.status_code < 500, describe(operation, answer)
