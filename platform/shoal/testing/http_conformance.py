"""Checks that a capability keeps HTTP's rules, as the Router has every route do."""

import re

import httpx
import pytest

from shoal.contract.operations import Operation

from .app import CapabilityApp


class HTTPConformance:
    """The part of `Conformance` about methods, types and encodings."""

    def test_head_responds_as_get_without_a_body(
        self, app: CapabilityApp, http: httpx.Client, all_operations: list[Operation]
    ) -> None:
        headers = bearer(app, "admin")
        for operation in all_operations:
            path = filled_path(operation)
            if operation.method == "GET":
                get, head = [http.request(m, path, headers=headers) for m in ("GET", "HEAD")]
                assert head.status_code == get.status_code, describe(operation, head)
                assert head.headers["content-type"] == get.headers["content-type"]
                assert head.content == b""

    def test_options_and_405_list_the_methods(
        self, app: CapabilityApp, http: httpx.Client, all_operations: list[Operation]
    ) -> None:
        for operation in all_operations:
            path = filled_path(operation)
            options = http.request("OPTIONS", path, headers=bearer(app, "reader", "ana"))
            assert options.status_code == 204, describe(operation, options)
            assert operation.method in options.headers["allow"].split(", ")
            wrong = http.request("TRACE", path, headers=bearer(app, "admin"))
            assert wrong.status_code == 405, describe(operation, wrong)
            assert wrong.json()["title"] == "Method not allowed"
            assert wrong.headers["allow"] == options.headers["allow"]

    @pytest.mark.parametrize("encoding", ["br", "gzip", "snappy", "zstd"])
    def test_a_body_that_cannot_be_inflated_is_refused(
        self,
        app: CapabilityApp,
        http: httpx.Client,
        all_operations: list[Operation],
        encoding: str,
    ) -> None:
        headers = bearer(app, "admin") | {"content-encoding": encoding}
        for operation in all_operations:
            if operation.has_body:
                answer = http.request(
                    operation.method, filled_path(operation), headers=headers, content=b"{}"
                )
                assert 400 <= answer.status_code < 500, describe(operation, answer)
                if encoding == "br":
                    assert answer.status_code == 415, describe(operation, answer)
                    assert answer.headers["accept-encoding"] == "gzip, snappy, zstd"


def filled_path(operation: Operation, value: str = "x") -> str:
    """The operation's path, with a value for each of its parameters."""
    return re.sub(r"\{[^}]+\}", value, operation.path)


def bearer(app: CapabilityApp, role: str, user: str | None = None) -> dict[str, str]:
    return {"authorization": f"Bearer {app.key('acme', role, user)}"}


def describe(operation: Operation, answer: httpx.Response) -> str:
    return f"{operation.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
