"""Calling by operation id."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from shoal import Conflict, InternalError, Invalid, LimitExceeded, NotFound, ShoalError, Unavailable
from shoal.contract.operations import Operation, decode, operations


class Body(BaseModel):
    role: str
    user: str | None = None


@pytest.fixture(scope="module")
def known() -> dict[str, Operation]:
    router = APIRouter()

    @router.get("/things/{id}")
    async def get_thing(id: str, limit: int = 1, tag: str | None = None) -> None: ...

    @router.get("/all")
    async def list_all(q: str) -> None: ...

    @router.put("/things/{id}")
    async def put_thing(id: str, body: Body) -> None: ...

    @router.post("/rows")
    async def add_rows(body: list[int]) -> None: ...

    @router.get("/free")
    async def free(request: Request) -> None: ...

    app = FastAPI(generate_unique_id_function=lambda r: r.name)
    app.include_router(router, prefix="/x")
    return operations(app.openapi())


def test_path_parameters_are_percent_encoded(known: dict[str, Operation]) -> None:
    assert (
        known["get_thing"].request({"id": "../a b/ü?"}).path == "/x/things/..%2Fa%20b%2F%C3%BC%3F"
    )


def test_query_parameters_may_repeat_and_none_is_left_out(known: dict[str, Operation]) -> None:
    request = known["get_thing"].request({"id": "1", "limit": 5, "tag": ["a", "b"]})
    assert request.query == (("limit", "5"), ("tag", "a"), ("tag", "b"))
    assert known["get_thing"].request({"id": "1", "limit": None}).query == ()


def test_fields_of_the_body_may_be_given_by_name(known: dict[str, Operation]) -> None:
    request = known["put_thing"].request({"id": "1", "role": "reader"})
    assert (request.method, request.body) == ("PUT", b'{"role":"reader"}')


def test_a_body_goes_as_it_is_and_bytes_are_ndjson(known: dict[str, Operation]) -> None:
    assert known["add_rows"].request({"body": [1, 2]}).body == b"[1,2]"
    request = known["add_rows"].request({"body": b"1\n2"})
    assert request.headers == (("content-type", "application/x-ndjson"),)


def test_an_operation_without_a_body_takes_any_query_parameter(known: dict[str, Operation]) -> None:
    assert known["free"].request({"user": 7, "flag": True}).query == (
        ("user", "7"),
        ("flag", "true"),
    )


@pytest.mark.parametrize(
    ("operation", "arguments", "what"),
    [
        ("get_thing", {}, "needs the argument id"),
        ("list_all", {}, "needs the argument q"),
        ("put_thing", {"id": "1", "body": {}, "role": "x"}, "either body="),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    known: dict[str, Operation], operation: str, arguments: dict[str, Any], what: str
) -> None:
    with pytest.raises(Invalid, match=what):
        known[operation].request(arguments)


def test_reads_and_puts_are_safe_to_repeat_posts_not(known: dict[str, Operation]) -> None:
    assert known["get_thing"].safe and not known["add_rows"].safe
    assert known["put_thing"].request({"id": "1", "role": "r"}).idempotent


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no"),
        Conflict("c"),
        LimitExceeded("slow", retry_after=2.5),
        Invalid("x", errors=[{"location": "a", "message": "b"}]),
    ],
)
def test_an_error_survives_its_way_through_a_problem(error: ShoalError) -> None:
    import json

    with pytest.raises(type(error)) as caught:
        decode(error.status, "application/problem+json", json.dumps(error.problem()).encode())
    assert (caught.value.detail, caught.value.errors, caught.value.retry_after) == (
        error.detail,
        error.errors,
        error.retry_after,
    )


def test_an_unknown_status_is_the_nearest_kind() -> None:
    with pytest.raises(Invalid):
        decode(418, "text/plain", b"teapot")
    with pytest.raises(Unavailable, match="bad gateway"):
        decode(502, "text/html", b"bad gateway")
    with pytest.raises(InternalError, match="teapot"):
        decode(599, "text/html", b"teapot")


def test_other_content_comes_as_bytes_and_nothing_as_none() -> None:
    assert decode(200, "application/vnd.apache.parquet", b"PAR1") == b"PAR1"
    assert decode(204, "", b"") is None
