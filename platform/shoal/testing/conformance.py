"""What any capability must hold to. Subclass it in your tests:

from shoal.testing.conformance import Conformance

class TestConformance(Conformance):
    capability = "greeting"
"""

import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from ..contract.operations import operations
from .app import CapabilityApp


class Conformance:
    """Every test runs on the capability's OpenAPI, so it needs to know nothing about its subject."""

    capability: str

    @pytest.fixture(scope="class")
    def app(self, shoal_app: Callable[..., CapabilityApp]) -> Iterator[CapabilityApp]:
        yield shoal_app(self.capability)

    @pytest.fixture(scope="class")
    def every(self, app: CapabilityApp) -> list[tuple[str, str]]:
        """Method and path of every operation, with something in place of the path's parameters."""
        document = httpx.get(f"{app.address}/{self.capability}/openapi.json").json()
        return [(o.method, re.sub(r"\{[^}]+\}", "x", o.path)) for o in operations(document).values()]

    def test_operation_ids_are_names_for_methods(self, app: CapabilityApp) -> None:
        ids = list(operations(httpx.get(f"{app.address}/{self.capability}/openapi.json").json()))
        assert ids and all(i.isidentifier() and not i.startswith("_") for i in ids)

    def test_nothing_answers_without_a_credential(self, app: CapabilityApp, every: list[tuple[str, str]]) -> None:
        for method, path in every:
            answer = httpx.request(method, app.address + path)
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
            assert answer.headers["content-type"].startswith("application/problem+json")

    def test_a_tenant_in_the_query_must_be_the_credentials(self, app: CapabilityApp, every: list[tuple[str, str]]) -> None:
        app.key("globex")
        headers = {"authorization": f"Bearer {app.key('acme', 'admin')}"}
        for method, path in every:
            answer = httpx.request(method, app.address + path, params={"tenant": "globex"}, headers=headers)
            assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"

    def test_a_reader_changes_nothing(self, app: CapabilityApp) -> None:
        headers = {"authorization": f"Bearer {app.key('acme', 'reader', 'ana')}"}
        document = httpx.get(f"{app.address}/{self.capability}/openapi.json").json()
        for operation in operations(document).values():
            if not operation.safe:
                path = re.sub(r"\{[^}]+\}", "x", operation.path)
                answer = httpx.request(operation.method, app.address + path, headers=headers, json={})
                assert answer.status_code == 403, f"{operation.method} {path}: {answer.status_code}"

    @pytest.mark.parametrize("body", [b"", b"{", b"[1, NaN]", b"\xff\xfe", b'{"a": "\\u0000"}', b"null", b"[[[[]]]]", b'"' + b"x" * 100_000 + b'"'])
    def test_a_hostile_body_is_a_4xx_and_never_a_500(self, app: CapabilityApp, every: list[tuple[str, str]], body: bytes) -> None:
        headers = {"authorization": f"Bearer {app.key('acme', 'admin')}", "content-type": "application/json"}
        for method, path in every:
            if method in ("POST", "PUT", "PATCH"):
                answer = httpx.request(method, app.address + path, headers=headers, content=body, timeout=60)
                assert answer.status_code < 500, f"{method} {path} {body[:20]!r}: {answer.status_code} {answer.text[:300]}"

    @pytest.mark.parametrize("value", ["%00", "%0a", "..%2f..%2fetc", "%f0%9f%92%a5", "a" * 3000, "%7b%7d%3a%2a", "-1", "NaN", "1e999"])
    def test_a_hostile_path_or_query_is_never_a_500(self, app: CapabilityApp, value: str) -> None:
        headers = {"authorization": f"Bearer {app.key('acme', 'admin')}"}
        document = httpx.get(f"{app.address}/{self.capability}/openapi.json").json()
        for operation in operations(document).values():
            path = re.sub(r"\{[^}]+\}", value, operation.path)
            query = "&".join(f"{name}={value}" for name in sorted(operation.query))
            answer = httpx.request(operation.method, f"{app.address}{path}?{query}", headers=headers, timeout=60)
            assert answer.status_code < 500, f"{operation.method} {path}?{query}: {answer.status_code} {answer.text[:300]}"
