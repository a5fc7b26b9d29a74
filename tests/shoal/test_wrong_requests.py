"""Every wrong request is answered by a problem that says where it is wrong."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from shoal import Role
from shoal.contract.operations import Operation

CAPABILITIES = ("search", "features", "anomalies", "experiments", "optimizer")
BODIES = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "a text": b'"text"',
    "an empty list": b"[]",
    "a list of lists": b"[[1]]",
    "a list of null": b"[null]",
    "an empty object": b"{}",
    "an unknown field": b'{"\xc3\xa9": 1}',
    "an empty name": b'{"": 1}',
    "duplicate names": b'{"id": "a", "id": "b", "text": 1, "text": 2}',
    "cut off": b'{"id": "a"',
    "a trailing comma": b'{"id": "a",}',
    "two documents": b"{}{}",
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "1,000 levels": b"[" * 1000 + b"]" * 1000,
    "NaN": b'{"id": "a", "value": NaN}',
    "Infinity": b"[Infinity]",
    "1e400": b'{"limit": 1e400}',
    "a huge integer": b'{"limit": ' + b"9" * 5000 + b"}",
    "an integer of 65 bits": b'[{"id": 36893488147419103232}]',
    "half a surrogate pair": b'{"id": "\\ud800"}',
    "a NUL": b'{"id": "\\u0000", "name": "\\u0000"}',
    "no UTF-8": b'{"id": "\xff\xfe"}',
    "UTF-16": '{"id": "a"}'.encode("utf-16"),
    "a long text": b'{"id": "' + b"x" * 200_000 + b'"}',
    "many fields": b"{" + b",".join(b'"f%d": 1' % n for n in range(5000)) + b"}",
}
MALFORMED = {
    *("cut off", "a trailing comma", "two documents", "100,000 brackets", "100,000 objects"),
    *("NaN", "Infinity", "1e400", "half a surrogate pair", "no UTF-8", "UTF-16"),
    *("blank",),
}
"""What is no JSON at all."""


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., Any]) -> Any:
    return shoal_app(*CAPABILITIES)


class Caller(httpx.Client):
    """An admin of a tenant, and the operator for what only that may do."""

    def __init__(self, app: Any) -> None:
        super().__init__(base_url=app.address, timeout=60)
        operator = app.run(app.platform.directory.create_key("platform", Role.admin))[1]
        self._keys = (app.key("wrong", "admin"), operator)

    def request(self, *args: Any, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {})
        for key in self._keys:
            answer = super().request(
                *args, headers={**headers, "authorization": f"Bearer {key}"}, **options
            )
            if answer.status_code != 403:
                break
        return answer


@pytest.fixture(scope="module")
def http(app: Any) -> Iterator[httpx.Client]:
    with Caller(app) as http:
        yield http


@pytest.fixture(scope="module")
def operations(app: Any) -> list[Operation]:
    with app.client("wrong", "admin") as client:
        return [
            operation
            for capability in ("platform", *CAPABILITIES)
            for operation in client.operations(capability).values()
        ]


def path_of(operation: Operation) -> str:
    return re.sub(r"\{[^}]+\}", "wrong", operation.path)


def check_problem(answer: httpx.Response, *, located: bool) -> dict[str, Any]:
    """A response is a problem document, and plain; or it is none of an error."""
    text = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}"
    assert answer.status_code < 500, text
    if answer.status_code < 400:
        return {}
    assert answer.headers["content-type"] == "application/problem+json", text
    problem: dict[str, Any] = answer.json()
    assert problem["request_id"] == answer.headers["x-request-id"], text
    assert problem["status"] == answer.status_code and problem["detail"], text
    assert not re.search(r"Input should|dictionary|Extra inputs|Traceback|object at 0x", text), text
    if located:
        assert problem.get("errors"), text
        for error in problem["errors"]:
            assert error["location"] and error["message"], text
    return problem


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_body_is_a_problem_with_its_place(
    http: httpx.Client, operations: list[Operation], name: str
) -> None:
    for operation in operations:
        if not operation.has_body or operation.id == "upload":
            continue
        answer = http.request(
            operation.method,
            path_of(operation),
            content=BODIES[name],
            headers={"content-type": "application/json"},
        )
        if answer.status_code == 415:  # it takes no JSON
            continue
        problem = check_problem(answer, located=answer.status_code in (400, 413, 422))
        if name in MALFORMED and answer.status_code != 404 and not has_rows(answer):
            assert answer.status_code in (400, 413, 422), (operation.id, answer.text)
            assert problem["errors"][0]["location"] == "body", answer.text


def has_rows(answer: httpx.Response) -> bool:
    """Whether the rows of a batch were judged one by one."""
    return answer.status_code < 300 and "rejected" in answer.text


@pytest.mark.parametrize("media_type", ["image/png", "application/xml", "multipart/form-data", "x"])
def test_another_media_type_is_415(
    http: httpx.Client, operations: list[Operation], media_type: str
) -> None:
    for operation in operations:
        if operation.has_body:
            answer = http.request(
                operation.method,
                path_of(operation),
                content=b"<a/>",
                headers={"content-type": media_type},
            )
            assert answer.status_code == 415, (operation.id, answer.text)
            problem = check_problem(answer, located=True)
            assert problem["errors"][0]["location"] == "header.content-type"


def test_an_unknown_query_parameter_is_named(
    http: httpx.Client, operations: list[Operation]
) -> None:
    for operation in operations:
        answer = http.request(operation.method, path_of(operation), params={"colour": "red"})
        problem = check_problem(answer, located=answer.status_code == 422)
        assert answer.status_code == 422, (operation.id, answer.text)
        if operation.path != "/features":  # where any name is that of an entity type
            assert "colour" in problem["detail"], problem


@pytest.mark.parametrize(
    "cursor", ["x", "-1", "0", "99999999999", "W10", "bnVsbA", "💥", "a" * 5000, "WyJ4Iiwx"]
)
def test_a_cursor_of_no_page_is_refused_in_one_wording(
    http: httpx.Client, operations: list[Operation], cursor: str
) -> None:
    paged = [operation for operation in operations if "cursor" in operation.query]
    assert len(paged) >= 8
    for operation in paged:
        params = {**dict.fromkeys(operation.required, "x"), "cursor": cursor}
        answer = http.request(operation.method, path_of(operation), params=params)
        if answer.status_code in (403, 404):
            continue
        problem = check_problem(answer, located=True)
        assert answer.status_code == 422, (operation.id, answer.text)
        assert problem["errors"][0] == {
            "location": "query.cursor",
            "message": "not a cursor of this list: take it from the page before, or leave it out",
        }


def test_an_empty_value_of_a_number_is_located(
    http: httpx.Client, operations: list[Operation]
) -> None:
    for operation in operations:
        if "limit" in operation.query:
            for value in ("", "x", "-1", "1e400", "9" * 400, "NaN"):
                answer = http.request(operation.method, path_of(operation), params={"limit": value})
                problem = check_problem(answer, located=True)
                places = {error["location"] for error in problem["errors"]}
                assert answer.status_code == 422 and "query.limit" in places, answer.text
