"""The router from outside: credentials, tenants, limits and hostile requests."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from shoal import TenantContext, requires
from shoal.router.credentials import mint_internal
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights
from shoal.tenants.records import Limits

from ..conftest import SECRET, World, problem, routes

pytestmark = pytest.mark.anyio


async def test_a_key_identifies_tenant_and_role(world: World) -> None:
    answer = (await world.get("/who")).json()
    assert (answer["tenant"], answer["role"], answer["user"], answer["boards"]) == (
        "acme",
        "editor",
        None,
        None,
    )


async def send_raw(world: World, body: bytes = b"", **parts: Any) -> list[Any]:
    """The messages for a request that httpx cannot send, by default with acme's key."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/greeting/who",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("a", 1),
        "client": None,
        "headers": [(b"authorization", f"Bearer {world.keys['acme-editor']}".encode())],
        **parts,
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await world.router(scope, receive, send)
    return sent


# Credentials


NONSENSE = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer shoal_",
    "Bearer shoal__",
    "Bearer shoal_x_y",
    "Bearer " + "shoal_" + "x" * 9000,
    "Bearer a.b.c",
    "Bearer ..",
    "Bearer " + "é",
    "Basic YWNtZTphY21l",
    "Bearer null",
]


async def test_a_missing_or_invalid_credential_is_401(world: World) -> None:
    for authorization in NONSENSE:
        headers = {} if authorization is None else {"authorization": authorization.encode()}
        response = await world.call("GET", "/who", None, headers)
        assert problem(response, 401), authorization
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_key_with_the_wrong_secret_is_401(world: World) -> None:
    key, other = world.keys["acme-editor"], world.keys["globex-editor"]
    last = "a" if key[-1] != "a" else "b"
    for wrong in (
        key[:-1] + last,
        key + "a",
        key[:-1],
        key.upper(),
        key.rsplit("_", 1)[0] + "_" + other.rsplit("_", 1)[1],
    ):
        problem(await world.get("/who", key=wrong), 401)


async def test_two_credentials_are_rejected_in_any_order(world: World) -> None:
    both = [("authorization", f"Bearer {world.keys[k]}") for k in ("acme-editor", "globex-editor")]
    for headers in (both, both[::-1]):
        problem(await world.client.get("/who", headers=headers), 400)


@pytest.mark.parametrize("scheme", ["bEARER", "Token", "token"])
async def test_the_scheme_is_case_insensitive(world: World, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {world.keys['acme-reader']}"}
    assert (await world.call("GET", "/who", None, headers)).status_code == 200


async def test_a_credential_in_the_query_is_ignored(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "httpx")  # the caller's own log has the caller's query
    problem(
        await world.client.get(
            "/who", params={"key": world.keys["acme-editor"], "access_token": "x"}
        ),
        401,
    )


# Tenant


OTHER_TENANTS = [
    "tenant=globex",
    "tenant=acme&tenant=globex",
    "tenant=globex&tenant=acme",
    "%74enant=globex",
    "tenan%74=globex",
    "tenant=",
    "tenant",
    "tenant=ACME",
    "tenant=acme%20",
    "tenant=acme%0a",
    "tenant=acme%0aglobex",
    "tenant=../globex",
    "tenant=acme/../globex",
    "tenant=acme:globex",
    "tenant=%2e%2e%2f",
    "x=1&tenant=globex&y=2",
    "tenant=*",
    "tenant=platform",
]


async def test_the_query_cannot_name_another_tenant(world: World) -> None:
    for query in OTHER_TENANTS:
        assert problem(await world.get(f"/who?{query}"), 403), query


async def test_the_query_may_repeat_the_credentials_tenant(world: World) -> None:
    for query in ("tenant=acme", "tenant=acme&tenant=acme", "%74enant=%61cme"):
        assert (await world.get(f"/who?{query}")).json()["tenant"] == "acme"


async def test_control_characters_in_path_and_query_are_400(world: World) -> None:
    for path in (
        "/who?tenant=acme%00",
        "/who?q=%00",
        "/items/a%00b",
        "/items/a%0ab",
        "/items/%0d%0aSet-Cookie:x",
        "/%7f",
    ):
        assert problem(await world.get(path), 400), path


async def test_a_query_must_be_utf_8(world: World) -> None:
    for query, status in (("tenant=acme&q=žluť".encode(), 422), (b"q=\xff", 400)):
        start, *_ = await send_raw(world, query_string=query)
        assert start["status"] == status


async def test_a_query_with_too_many_parameters_is_400(world: World) -> None:
    problem(await world.get("/who?tenant=acme&" + "&".join(f"a{i}=1" for i in range(1001))), 400)


async def test_another_tenants_id_is_not_found(world: World) -> None:
    assert (await world.call("PUT", "/items/1", json={"text": "acme's"})).status_code == 200
    assert (await world.get("/items/1")).json()["text"] == "acme's"
    problem(await world.get("/items/1", key="globex-editor"), 404)


async def test_headers_cannot_name_another_tenant(world: World) -> None:
    headers = {
        "tenant": "globex",
        "x-tenant": "globex",
        "shoal-tenant": "globex",
        "x-forwarded-user": "eve",
    }
    assert (await world.get("/who", headers=headers)).json()["tenant"] == "acme"


# Rights


NEEDS = [
    ("GET", "/who", "read:own", ("reader", "editor", "admin"), None),
    ("PUT", "/items/1", "write:own", ("editor", "admin"), {"text": "x"}),
    ("POST", "/bare", "write:own", ("editor", "admin"), None),
    ("POST", "/read", "read:own", ("reader", "editor", "admin"), ["1"]),
    ("POST", "/operate", "admin:tenant", ("admin",), None),
]


async def test_operations_require_their_rights(world: World) -> None:
    for method, path, right, allowed, body in NEEDS:
        for role in ("reader", "editor", "admin"):
            response = await world.call(
                method, path, f"acme-{role}", **({} if body is None else {"json": body})
            )
            if role in allowed:
                assert response.status_code == 200, response.text
            else:
                assert f"needs the right {right}" in problem(response, 403)["detail"]


async def test_the_right_is_checked_before_the_body_is_read(world: World) -> None:
    problem(
        await world.call(
            "PUT",
            "/items/1",
            "acme-reader",
            content=b"{",
            headers={"content-type": "application/json"},
        ),
        403,
    )


async def test_nested_routers_are_guarded(world: World) -> None:
    inner, outer = APIRouter(), APIRouter()

    @inner.post("/write")
    async def write() -> Any:
        return {}

    outer.include_router(
        inner, prefix="/operators", dependencies=[Depends(requires("admin:tenant"))]
    )
    enforce_rights(outer)
    world.router.app = FastAPI()
    install_problem_handlers(world.router.app)
    world.router.app.include_router(outer, prefix="/greeting")
    problem(await world.call("POST", "/operators/write", "acme-editor"), 403)
    assert (await world.call("POST", "/operators/write", "acme-admin")).status_code == 200


def undeclared(router: APIRouter) -> None:
    @router.get("/undeclared")
    async def route() -> None: ...


def ambiguous(router: APIRouter) -> None:
    @router.get("/ambiguous", dependencies=[Depends(requires("read:own"))])
    async def route(ctx: TenantContext = Depends(requires("write:own"))) -> None: ...


def included_twice(router: APIRouter) -> None:
    inner = APIRouter()

    @inner.get("/route")
    async def route() -> None: ...

    for right in ("read:own", "admin:tenant"):
        router.include_router(inner, prefix="/twice", dependencies=[Depends(requires(right))])  # type: ignore[arg-type]


def socket(router: APIRouter) -> None:
    @router.websocket("/socket")
    async def route(socket: WebSocket) -> None: ...


@pytest.mark.parametrize(
    ("add", "fault"),
    [
        (undeclared, "GET /undeclared: declares no right"),
        (ambiguous, r"GET /ambiguous: declares several rights \(read:own, write:own\)"),
        (included_twice, "GET /twice/route: declares several rights"),
        (socket, "WebSocket /socket: declares no right"),
    ],
)
def test_a_route_must_declare_one_right(add: Callable[[APIRouter], None], fault: str) -> None:
    router = routes(None)
    add(router)
    with pytest.raises(TypeError, match=fault):
        enforce_rights(router)


def test_an_unknown_right_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ValueError, match="unknown right 'read:all'; the rights are read:own"):
        requires("read:all")  # type: ignore[arg-type]


async def test_a_route_that_cannot_be_guarded_is_rejected() -> None:
    router = routes(None)
    router.routes.append(Route("/hole", lambda request: None))
    with pytest.raises(TypeError, match="/hole"):
        enforce_rights(router)


async def test_a_route_without_the_router_fails(world: World) -> None:
    problem_free = World.connect(world.app)
    response = await problem_free.get("/bare")
    assert response.status_code in (405, 500)
    assert (await problem_free.get("/who")).status_code == 500


# User and boards


async def test_the_users_header_selects_user_and_boards(world: World) -> None:
    await world.directory.boards.replace("acme", "b1", ["ana", "bob"])
    await world.directory.boards.replace("acme", "b2", ["ana"])
    await world.directory.boards.replace("globex", "b9", ["ana"])
    await world.router.snapshot.catch_up()
    for key, user, boards in (
        ("acme-editor", "ana", ["b1", "b2"]),
        ("acme-reader", "bob", ["b1"]),
        ("acme-editor", "eve", []),
        ("globex-editor", "ana", ["b9"]),
    ):
        answer = (await world.get("/who", key, headers={"shoal-user": user})).json()
        assert (answer["user"], answer["boards"]) == (user, boards)


async def test_the_service_itself_sees_all_boards(world: World) -> None:
    await world.directory.roles.put("acme", "frontend", frozenset({"read:own", "read:boards"}))
    _, world.keys["acme-frontend"] = await world.directory.create_key("acme", "frontend")
    seen = [
        (await world.get("/who", f"acme-{role}")).json()["boards"]
        for role in ("reader", "editor", "admin", "frontend")
    ]
    assert seen == [None, None, None, []]


async def test_a_user_has_no_rights_over_the_whole_tenant(world: World) -> None:
    """Neither by a key of a user's nor by Shoal-User; an admin's own key has them."""
    read, write = {"read:own", "read:boards"}, {"write:own", "write:boards"}
    tenant = {"read:tenant", "write:tenant", "admin:tenant"}
    for role, own_key in (
        ("reader", read),
        ("editor", read | write),
        ("admin", read | write | tenant),
    ):
        _, key = await world.directory.create_key("acme", role, user="ana")
        assert set((await world.get("/who", key)).json()["rights"]) == own_key, role
        named = await world.get("/who", f"acme-{role}", headers={"shoal-user": "ana"})
        assert set(named.json()["rights"]) == own_key - tenant, role


async def test_a_role_of_the_tenants_own_gives_exactly_its_rights(world: World) -> None:
    await world.directory.roles.put("acme", "analyst", frozenset({"read:own", "read:tenant"}))
    await world.directory.roles.put("platform", "clerk", frozenset({"admin:platform", "read:own"}))
    for tenant, role, rights in (
        ("acme", "analyst", ["read:own", "read:tenant"]),
        ("acme", "clerk", ["read:own"]),
        ("platform", "clerk", ["admin:platform", "read:own"]),
    ):
        _, key = await world.directory.create_key(tenant, role, user="ana")
        assert (await world.get("/who", key)).json()["rights"] == rights
    _, key = await world.directory.create_key("globex", "analyst", user="ana")
    assert "'analyst'" in problem(await world.get("/who", key), 403)["detail"]


async def test_a_changed_role_takes_effect(world: World) -> None:
    await world.directory.roles.put("acme", "writer", frozenset({"read:own", "write:own"}))
    _, key = await world.directory.create_key("acme", "writer")
    assert (await world.call("POST", "/bare", key)).status_code == 200
    await world.directory.roles.put("acme", "writer", frozenset({"read:own"}))
    await world.router.snapshot.catch_up()
    problem(await world.call("POST", "/bare", key), 403)
    await world.directory.roles.delete("acme", "writer")
    await world.router.snapshot.catch_up()
    assert "not defined" in problem(await world.get("/who", key), 403)["detail"]


async def test_changed_board_members_take_effect(world: World) -> None:
    async def boards() -> Any:
        await world.router.snapshot.catch_up()
        return (await world.get("/who", headers={"shoal-user": "ana"})).json()["boards"]

    assert await boards() == []
    await world.directory.boards.replace("acme", "b1", ["ana"])
    assert await boards() == ["b1"]
    await world.directory.boards.replace("acme", "b1", ["bob"])
    assert await boards() == []
    await world.directory.boards.replace("acme", "b1", ["ana"])
    await world.directory.boards.delete("acme", "b1")
    assert await boards() == []


async def test_a_key_of_one_user_cannot_act_for_another(world: World) -> None:
    _, key = await world.directory.create_key("acme", "reader", user="ana")
    assert (await world.get("/who", key)).json()["user"] == "ana"
    assert (await world.get("/who", key, headers={"shoal-user": "ana"})).json()["user"] == "ana"
    problem(await world.get("/who", key, headers={"shoal-user": "bob"}), 403)


async def test_an_invalid_user_is_400(world: World) -> None:
    for user in (b"", b"a\x01b", b"\xff\xfe", b"u" * 513):
        assert problem(await world.get("/who", headers={"shoal-user": user}), 400), user


async def test_two_user_headers_are_400(world: World) -> None:
    headers = [
        ("authorization", f"Bearer {world.keys['acme-editor']}"),
        ("shoal-user", "ana"),
        ("shoal-user", "bob"),
    ]
    problem(await world.client.get("/who", headers=headers), 400)


async def test_a_users_id_may_contain_any_letters(world: World) -> None:
    answer = await world.get("/who", headers={"shoal-user": "žofie:1 {x}%41".encode()})
    assert answer.json()["user"] == "žofie:1 {x}%41"


# Bodies and headers


NOT_JSON = [
    b"{",
    b"\xff",
    b'{"text": NaN}',
    b'{"text": "\\ud800"}',
    b"[" * 100_000,
    b'{"text": "x", "weight": Infinity}',
    b"{'text': 'x'}",
    b"1" * 5000,
]


async def test_invalid_json_is_400(world: World) -> None:
    for body in NOT_JSON:
        response = await world.call(
            "PUT", "/items/1", content=body, headers={"content-type": "application/json"}
        )
        assert "not JSON" in problem(response, 400)["detail"], body[:50]


async def test_an_integer_that_would_lose_digits_is_422(world: World) -> None:
    body = b'{"text": "x", "weight": 99999999999999999999}'
    headers = {"content-type": "application/json"}
    found = problem(await world.call("PUT", "/items/1", content=body, headers=headers), 422)
    assert found["errors"][0]["location"] == "weight"
    assert "beyond 64 bits" in found["detail"]


async def test_json_of_the_wrong_type_is_422(world: World) -> None:
    for body in (b"", b'"text"', b"null", b"[]"):
        assert problem(
            await world.call(
                "PUT", "/items/1", content=body, headers={"content-type": "application/json"}
            ),
            422,
        ), body[:50]


async def test_validation_errors_are_located(world: World) -> None:
    body = problem(await world.call("PUT", "/items/1", json={"text": "", "weight": "heavy"}), 422)
    assert [error["location"] for error in body["errors"]] == ["text", "weight"]
    assert "heavy" not in str(body)
    body = problem(await world.call("POST", "/read", json=["1", 2]), 422)
    assert body["errors"][0]["location"] == "1"
    body = problem(await world.get("/slow?seconds=soon"), 422)
    assert body["errors"][0]["location"] == "query.seconds"


async def test_a_body_over_the_limit_is_413_unread(
    new_world: Callable[..., Any],
) -> None:
    world = await new_world(limits=Limits(body_bytes=1000))
    assert (await world.call("POST", "/raw", content=b"x" * 1000)).json() == {"length": 1000}
    problem(await world.call("POST", "/raw", content=b"x" * 1001), 413)


async def test_a_body_of_unknown_length_stops_at_the_limit(
    new_world: Callable[..., Any],
) -> None:
    world = await new_world(limits=Limits(body_bytes=1000))
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 500
            yield b"x" * 500

    problem(await world.call("POST", "/raw", content=endless()), 413)
    problem(
        await world.call(
            "PUT", "/items/1", content=endless(), headers={"content-type": "application/json"}
        ),
        413,
    )
    assert read <= 4000


async def test_headers_over_the_limit_are_431(world: World) -> None:
    problem(await world.get("/who", headers={"x-junk": "x" * 100_000}), 431)
    problem(await world.get("/who", key="shoal_" + "x" * 100_000), 431)


async def test_unknown_paths_and_methods_are_problems(world: World) -> None:
    problem(await world.get("/nothing"), 404)
    response = await world.call("DELETE", "/who")
    problem(response, 405)
    assert "GET" in response.headers["allow"]


async def test_an_unexpected_error_is_logged_and_not_disclosed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    response = await world.get("/boom")
    body = problem(response, 500)
    assert "1234" not in response.text
    assert body["request_id"] in caplog.text


async def test_nan_becomes_null_in_responses(world: World) -> None:
    assert (await world.get("/nan")).json() == {"value": None}


# Request ids


async def test_a_valid_request_id_is_kept(world: World) -> None:
    response = await world.get("/who", headers={"x-request-id": "abc-1.2_3"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "abc-1.2_3"
    for bad in ("", "a b", "x" * 129, "<script>", "a\x01"):
        response = await world.get("/who", headers={"x-request-id": bad})
        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


# Limits


async def test_one_tenants_flood_is_429_for_it_alone(world: World) -> None:
    await world.directory.set_limits("acme", "greeting", Limits(rps=1, burst=3))
    await world.router.snapshot.catch_up()
    answers = [await world.get("/who") for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert problem(answers[-1], 429)["retry_after"] <= 1
    assert answers[-1].headers["retry-after"] == "1"
    assert (await world.get("/who", "globex-editor")).status_code == 200
    await world.directory.set_limits("acme", "greeting", None)
    await world.router.snapshot.catch_up()
    assert (await world.get("/who")).status_code == 200


async def test_concurrent_requests_are_limited(world: World) -> None:
    await world.directory.set_limits("acme", "*", Limits(concurrency=2))
    await world.router.snapshot.catch_up()
    answers = await asyncio.gather(*(world.get("/slow?seconds=0.2") for _ in range(4)))
    assert sorted(a.status_code for a in answers) == [200, 200, 429, 429]
    for path in ("/boom", "/nothing", "/slow?seconds=x"):
        for _ in range(3):
            await world.get(path)
    assert (await world.get("/who")).status_code == 200


async def test_a_request_that_takes_too_long_is_503(new_world: Callable[..., Any]) -> None:
    world = await new_world(limits=Limits(seconds=0.1))
    assert "0.1 s" in problem(await world.get("/slow?seconds=5"), 503)["detail"]


async def test_a_response_that_started_in_time_may_continue(new_world: Callable[..., Any]) -> None:
    world = await new_world(limits=Limits(seconds=0.3))
    assert (await world.get("/stream")).text == "xxxx"


async def test_rejections_do_not_read_the_body(world: World) -> None:
    async def unread() -> Any:
        raise AssertionError("the body was read")
        yield b""

    problem(await world.call("POST", "/raw", None, content=unread()), 401)
    await world.directory.set_limits("acme", "*", Limits(rps=0.001, burst=1))
    await world.router.snapshot.catch_up()
    await world.get("/who")
    problem(await world.call("POST", "/raw", content=unread()), 429)


# Public paths, internal tokens, other capabilities


async def test_only_exact_public_paths_need_no_credential(world: World) -> None:
    assert (await world.get("/openapi.json", None)).status_code == 200
    for method, path in (
        ("GET", "/items/openapi.json"),
        ("GET", "/items/docs"),
        ("POST", "/openapi.json"),
        ("GET", "/openapi.json/"),
        ("GET", "/items/../openapi.json"),
    ):
        problem(await world.call(method, path, None), 401) if "../" not in path else None


async def test_a_public_path_does_not_open_a_matching_route(world: World) -> None:
    world.router._public.add("/greeting/items/healthz")
    problem(await world.get("/items/healthz", None), 401)


async def test_internal_tokens_act_for_any_tenant(world: World) -> None:
    for tenant in ("acme", "globex", "platform"):
        answer = await world.get("/who", mint_internal(SECRET, tenant, "admin"))
        assert (answer.json()["tenant"], answer.json()["role"], answer.json()["boards"]) == (
            tenant,
            "admin",
            None,
        )


async def test_other_capabilities_are_called_as_the_same_caller(world: World) -> None:
    context: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        context["ctx"] = scope["shoal.context"]
        scope["shoal.context"].capability("features")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    world.router.app = app
    await world.get("/who", headers={"shoal-user": "ana"})
    assert world.asked == [("features", context["ctx"])]


async def test_secrets_are_not_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = mint_internal(SECRET, "acme", "editor", ttl=-1)
    for key in ("acme-editor", "shoal_x_verysecret", token):
        for path in ("/who", "/boom", "/nothing"):
            await world.get(path, key)
    for secret in (
        world.keys["acme-editor"].split("_")[2],
        "verysecret",
        token.split(".")[2],
        SECRET,
    ):
        assert secret not in caplog.text


async def test_requests_work_over_a_real_server(world: World) -> None:
    config = uvicorn.Config(world.router, port=0, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    address = f"http://127.0.0.1:{port}/greeting"
    headers = {"authorization": f"Bearer {world.keys['acme-editor']}"}
    async with httpx.AsyncClient(base_url=address, headers=headers) as client:
        assert (await client.get("/who")).json()["tenant"] == "acme"
        problem(await client.get("/who", params={"tenant": "globex"}), 403)
        problem(await client.get("/items/a%00b"), 400)
        assert (await client.get("/who", headers={"x-junk": "x" * 100_000})).status_code in (
            400,
            431,
        )
        problem(await client.post("/raw", content=b"x" * (33 * 2**20)), 413)
        problem(await client.get("/boom"), 500)
        assert (await client.get("/who")).json()["tenant"] == "acme"
    server.should_exit = True
    await serving


# WebSockets


async def shake_hands(
    world: World, headers: dict[str, str], extensions: Any = None, app: Any = None
) -> list[Any]:
    """The messages for a WebSocket's handshake, with an application that accepts it."""
    scope = {
        "type": "websocket",
        "path": "/greeting/ws",
        "query_string": b"",
        "extensions": extensions or {},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def accepting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "tenant": scope["shoal.context"].tenant})

    world.router.app = app or accepting
    await world.router(scope, receive, send)
    return sent


async def test_websockets_are_rejected_by_default(world: World) -> None:
    [message] = await shake_hands(world, {"authorization": f"Bearer {world.keys['acme-editor']}"})
    assert message["type"] == "websocket.close"


async def test_websockets_need_a_credential(new_world: Callable[..., Any]) -> None:
    world = await new_world(websockets=True)
    [message] = await shake_hands(world, {"authorization": f"Bearer {world.keys['acme-editor']}"})
    assert message == {"type": "websocket.accept", "tenant": "acme"}
    [message] = await shake_hands(world, {})
    assert (message["type"], message["code"]) == ("websocket.close", 1008)
    start, body = await shake_hands(world, {}, {"websocket.http.response": {}})
    assert (start["status"], body["type"]) == (401, "websocket.http.response.body")


async def test_a_websocket_needs_its_right(new_world: Callable[..., Any]) -> None:
    world = await new_world(websockets=True)
    router, app = APIRouter(), FastAPI()

    @router.websocket("/ws")
    async def route(
        socket: WebSocket, ctx: TenantContext = Depends(requires("write:tenant"))
    ) -> None:
        await socket.accept()
        await socket.close()

    enforce_rights(router)
    app.include_router(router, prefix="/greeting")
    for key, answer in (
        ("acme-editor", "websocket.accept"),
        ("acme-reader", "websocket.close"),
        ((await world.directory.create_key("acme", "editor", "ana"))[1], "websocket.close"),
    ):
        headers = {"authorization": f"Bearer {world.keys.get(key, key)}"}
        assert (await shake_hands(world, headers, app=app))[0]["type"] == answer


# Any request

raw = st.binary(max_size=40)
header = st.tuples(
    st.sampled_from(
        [
            b"authorization",
            b"shoal-user",
            b"shoal-session",
            b"x-request-id",
            b"content-length",
            b"transfer-encoding",
            b"x",
        ]
    ),
    raw | st.sampled_from([b"Bearer shoal_a_b", b"Bearer a.b.c", b"-1", b"9" * 30, b"chunked"]),
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW", ""]),
    path=st.text(max_size=40).map(lambda text: "/greeting/" + text),
    query=raw | st.sampled_from([b"tenant=acme", b"tenant=%00", b"%%%", b"tenant"]),
    headers=st.lists(header, max_size=8),
    body=raw,
    known=st.booleans(),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_request_gets_one_response_and_never_a_500(
    world: World,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    known: bool,
) -> None:
    if known:
        headers = [*headers, (b"authorization", f"Bearer {world.keys['acme-editor']}".encode())]
    sent = await send_raw(
        world, body, method=method, path=path, query_string=query, headers=headers
    )
    assert [message["type"] for message in sent[:2]] == [
        "http.response.start",
        "http.response.body",
    ]
    assert 200 <= sent[0]["status"] < 500
    assert [name for name, _ in sent[0]["headers"]].count(b"x-request-id") == 1
    assert known or sent[0]["status"] >= 400 or path == "/greeting/openapi.json"
