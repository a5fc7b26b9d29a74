"""The router keeps HTTP's rules: methods, types and sizes, slow bodies, one id."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from shoal.router.cors import CORSSettings
from shoal.tenants.records import Limits

from ..conftest import World, problem

pytestmark = pytest.mark.anyio


# Methods


async def test_head_responds_as_get_without_a_body(world: World) -> None:
    await world.call("PUT", "/items/1", json={"text": "hello"})
    for path in ("/who", "/items/1", "/items/2", "/nosuch", "/openapi.json", "/boom", "/stream"):
        headers = {"x-request-id": "same"}
        get, head = [await world.call(m, path, headers=headers) for m in ("GET", "HEAD")]
        assert (head.status_code, head.headers, head.content) == (
            get.status_code,
            get.headers,
            b"",
        ), path
        assert get.content


async def test_head_is_405_where_get_is(world: World) -> None:
    answer = await world.call("HEAD", "/raw")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_another_method_is_405_and_told_which(world: World) -> None:
    for path, method, allowed in (
        ("/items/1", "POST", "GET, HEAD, OPTIONS, PUT"),
        ("/who", "DELETE", "GET, HEAD, OPTIONS"),
        ("/raw", "GET", "OPTIONS, POST"),
        ("/raw", "BREW", "OPTIONS, POST"),
    ):
        answer = await world.call(method, path, "acme-admin")
        assert problem(answer, 405)["title"] == "Method not allowed"
        assert answer.headers["allow"] == allowed


async def test_options_lists_the_methods(world: World) -> None:
    answer = await world.call("OPTIONS", "/items/1", "acme-reader")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, PUT"
    problem(await world.call("OPTIONS", "/nosuch"), 404)
    problem(await world.call("OPTIONS", "/items/1", None), 401)


async def test_the_title_says_the_status_of_any_error(world: World) -> None:
    assert problem(await world.call("DELETE", "/who"), 405)["title"] == "Method not allowed"
    assert problem(await world.get("/nosuch"), 404)["title"] == "Not found"


# Types


async def test_a_wrong_type_is_415_and_told_which(world: World) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "x"):
        for method, path, body in (
            ("PUT", "/items/1", b'{"text": "x"}'),
            ("POST", "/read", b'["1"]'),
        ):
            answer = await world.call(method, path, content=body, headers={"content-type": kind})
            assert "application/json" in problem(answer, 415)["detail"]


async def test_json_by_any_of_its_names_is_taken(world: World) -> None:
    for kind in ("application/json", "Application/JSON; charset=utf-8"):
        headers = {"content-type": kind}
        answer = await world.call("POST", "/read", content=b'["1"]', headers=headers)
        assert answer.json() == {"count": 1}


async def test_the_role_is_checked_before_the_type(world: World) -> None:
    headers = {"content-type": "text/plain"}
    problem(await world.call("PUT", "/items/1", "acme-reader", content=b"x", headers=headers), 403)


# Sizes


async def test_a_long_target_is_414(world: World) -> None:
    problem(await world.get("/who?q=" + "x" * 17_000), 414)
    problem(await world.get("/items/" + "x" * 17_000), 414)
    problem(await world.get("/items/" + "x" * 16_000), 404)


# Slow bodies


async def send_slowly(world: World, chunks: list[bytes], pause: float) -> tuple[int, Any]:
    """The status and headers for a body whose chunks come after a pause each."""
    left, sent = list(chunks), []

    async def receive() -> Any:
        if not left:
            await asyncio.sleep(60)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/greeting/raw",
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {world.keys['acme-editor']}".encode()),
            (b"content-length", b"100"),
        ],
    }
    await world.router(scope, receive, send)
    start, body = sent
    response = httpx.Response(start["status"], headers=start["headers"], content=body["body"])
    problem(response, start["status"])
    return response.status_code, response.headers


async def test_a_silent_body_is_the_clients_408(new_world: Callable[..., Any]) -> None:
    world = await new_world(body_seconds=0.2)
    for chunks in ([], [b"a"]):
        status, headers = await send_slowly(world, chunks, 0)
        assert (status, headers["connection"]) == (408, "close")
    assert (await world.get("/who")).status_code == 200


async def test_a_dripped_body_is_408_at_the_time_limit(new_world: Callable[..., Any]) -> None:
    world = await new_world(limits=Limits(seconds=0.5))
    assert (await send_slowly(world, [b"a"] * 100, 0.05))[0] == 408


async def test_a_slow_operation_is_still_503(new_world: Callable[..., Any]) -> None:
    world = await new_world(limits=Limits(seconds=0.2), body_seconds=0.1)
    problem(await world.get("/slow?seconds=5"), 503)


# The request's id


@pytest.mark.parametrize("sent", [["a b"], [""], ["a" * 129], ["a", "b"], ["<x>"], ["é"]])
async def test_an_unacceptable_id_is_replaced_everywhere(world: World, sent: list[str]) -> None:
    headers = [("authorization", f"Bearer {world.keys['acme-editor']}")]
    answer = await world.client.get(
        "/who", headers=[*headers, *(("x-request-id", s.encode()) for s in sent)]
    )
    [request_id] = answer.headers.get_list("x-request-id")
    assert answer.json()["request_id"] == request_id
    assert request_id not in sent


# CORS

APP, PORTAL, OTHER = "https://app.acme.com", "https://portal.example.com:8443", "https://evil.com"
ORIGINS = {"acme": [APP], "*": [PORTAL]}
ALLOW = "access-control-allow-origin"


@pytest.fixture
async def open_world(new_world: Callable[..., Any]) -> World:
    return await new_world(cors=CORSSettings(origins=ORIGINS))  # type: ignore[no-any-return]


async def test_a_preflight_is_answered_without_a_credential(open_world: World) -> None:
    for origin in (APP, PORTAL):
        headers = {"origin": origin, "access-control-request-method": "PUT"}
        answer = await open_world.call("OPTIONS", "/items/1", None, headers)
        assert (answer.status_code, answer.headers[ALLOW]) == (204, origin)
        assert answer.headers["vary"] == "Origin"
        assert "PUT" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origins", [ORIGINS, {}])
async def test_a_preflight_of_another_origin_is_403(
    new_world: Callable[..., Any], origins: Any
) -> None:
    world = await new_world(cors=CORSSettings(origins=origins))
    for origin in (OTHER, "null", "*", f"{APP}.evil.com", APP.upper(), f"{APP}/"):
        headers = {"origin": origin, "access-control-request-method": "PUT"}
        answer = await world.call("OPTIONS", "/items/1", None, headers)
        problem(answer, 403)
        assert ALLOW not in answer.headers


@pytest.mark.parametrize(
    ("tenant", "origin", "allowed"),
    [
        ("acme", APP, True),
        ("acme", PORTAL, True),
        ("globex", PORTAL, True),
        ("globex", APP, False),
        ("acme", OTHER, False),
        ("acme", "*", False),
    ],
)
async def test_a_tenants_data_is_for_its_origins(
    open_world: World, tenant: str, origin: str, allowed: bool
) -> None:
    for path in ("/who", "/items/none"):
        answer = await open_world.get(path, f"{tenant}-editor", headers={"origin": origin})
        assert answer.headers.get(ALLOW) == (origin if allowed else None)
        assert answer.headers["vary"] == "Origin"


async def test_a_page_may_read_that_it_is_not_signed_in(open_world: World) -> None:
    answer = await open_world.get("/who", None, headers={"origin": APP})
    problem(answer, 401)
    assert answer.headers[ALLOW] == APP


async def test_without_cors_no_header_tells_of_it(world: World) -> None:
    answer = await world.get("/who", headers={"origin": APP})
    assert not {ALLOW, "vary"} & answer.headers.keys()


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "acme.com",
        "https://*.acme.com",
        "https://acme.com/",
        "https://a@acme.com",
        "HTTPS://acme.com",
        "ftp://acme.com",
        "https://",
        "",
    ],
)
def test_what_is_no_origin_is_no_setting(origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        CORSSettings(origins={"acme": [origin]})
