"""The clients against a real HTTP server."""

import asyncio
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from shoal import AsyncClient, Client, Invalid, LimitExceeded, NotFound, Unavailable
from shoal.contract.operations import OperationRequest


class Server:
    """A capability `x` that fails as a test asks, and records the requests."""

    def __init__(self) -> None:
        self.failures: list[tuple[int, dict[str, str]]] = []
        self.seen: list[str] = []
        self.headers: dict[str, str] = {}
        app = FastAPI(openapi_url="/x/openapi.json", generate_unique_id_function=lambda r: r.name)

        def answer(request: Request) -> Response | dict[str, str]:
            self.seen.append(request.method)
            self.headers = dict(request.headers)
            if self.failures:
                status, headers = self.failures.pop(0)
                return Response(
                    '{"detail": "not now"}', status, headers, media_type="application/problem+json"
                )
            return {"ok": "yes"}

        @app.get("/x/read", response_model=None)
        def read(request: Request) -> Response | dict[str, str]:
            return answer(request)

        @app.put("/x/replace", response_model=None)
        def replace(request: Request) -> Response | dict[str, str]:
            return answer(request)

        @app.post("/x/create", response_model=None)
        def create(request: Request) -> Response | dict[str, str]:
            return answer(request)

        @app.post("/x/look", response_model=None, openapi_extra={"x-shoal-safe": True})
        def look(request: Request) -> Response | dict[str, str]:
            return answer(request)

        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.should_exit = True
    server.thread.join(5)


@pytest.fixture
def server(running: Server) -> Server:
    running.failures.clear()
    running.seen.clear()
    return running


@pytest.mark.parametrize(
    ("operation", "tries"), [("read", 3), ("replace", 3), ("look", 3), ("create", 1)]
)
def test_only_safe_calls_are_retried_while_the_platform_is_unavailable(
    server: Server, operation: str, tries: int
) -> None:
    server.failures = [(503, {}), (503, {})]
    with Client(server.address, "k") as client:
        if tries == 1:
            with pytest.raises(Unavailable, match="not now"):
                getattr(client.x, operation)()
        else:
            assert getattr(client.x, operation)() == {"ok": "yes"}
    assert len(server.seen) == tries


def test_a_call_over_its_limit_is_retried_after_retry_after(server: Server) -> None:
    server.failures = [(429, {"Retry-After": "0.3"})]
    started = time.monotonic()
    with Client(server.address, "k") as client:
        assert client.x.create() == {"ok": "yes"}
    assert time.monotonic() - started >= 0.3


def test_the_last_error_is_raised_after_the_retries(server: Server) -> None:
    server.failures = [(429, {"Retry-After": "0.01"})] * 10
    with Client(server.address, "k", retries=2) as client, pytest.raises(LimitExceeded) as caught:
        client.x.read()
    assert caught.value.retry_after == 0.01 and len(server.seen) == 3


@pytest.mark.parametrize("status", [404, 409, 422, 500])
def test_other_errors_are_not_retried(server: Server, status: int) -> None:
    server.failures = [(status, {})] * 5
    with Client(server.address, "k") as client, pytest.raises(Exception, match="not now"):
        client.x.read()
    assert len(server.seen) == 1


def test_an_unreachable_server_is_unavailable() -> None:
    with (
        Client("http://127.0.0.1:1", "k", retries=0) as client,
        pytest.raises(Unavailable, match="does not answer"),
    ):
        client.x.read()


def test_an_unknown_operation_is_reported_with_the_known_ones(server: Server) -> None:
    with Client(server.address, "k") as client:
        with pytest.raises(AttributeError, match="create, look, read, replace"):
            client.x.erase()
        with pytest.raises(NotFound):
            client.nowhere.read()


def test_the_key_is_sent_and_never_shown(server: Server) -> None:
    with Client(server.address, "shoal_secret", user="ana") as client:
        client.x.read()
        assert "secret" not in repr(client) + repr(client.x)
    assert (server.headers["authorization"], server.headers["shoal-user"]) == (
        "Bearer shoal_secret",
        "ana",
    )


def test_the_asynchronous_client_retries_alike(server: Server) -> None:
    async def act() -> Any:
        async with AsyncClient(server.address, "k") as client:
            server.failures = [(503, {})]
            assert await client.x.read() == {"ok": "yes"}
            server.failures = [(503, {})]
            with pytest.raises(Unavailable):
                await client.x.create()
            return await asyncio.gather(*(client.x.read() for _ in range(5)))

    assert asyncio.run(act()) == [{"ok": "yes"}] * 5


def test_dir_lists_the_operations(server: Server) -> None:
    with Client(server.address, "k") as client:
        assert dir(client.x) == ["create", "look", "read", "replace"]


SECRET = "shoal_0123456789_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("key", [SECRET + "\n", "\r\n\t " + SECRET + " \r\n"])
def test_blanks_around_a_key_are_removed(server: Server, kind: Any, key: str) -> None:
    client = kind(server.address, key)
    assert SECRET not in repr(client)
    if kind is Client:
        client.x.read()
    else:
        asyncio.run(client.x.read())
    assert server.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "character", [*map(chr, range(33)), "\x7f", "\x85", "é", "\u2028", "\ud800"]
)
def test_a_bad_key_is_refused_without_its_value(kind: Any, character: str) -> None:
    for address in ("http://127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(Invalid) as caught:
            kind(address, SECRET[:20] + character + SECRET[20:])
        described = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert SECRET[:20] not in described and SECRET[20:] not in described


def test_a_bad_header_is_refused_without_its_value(server: Server) -> None:
    request = OperationRequest("GET", "/x/read", headers=(("authorization", f"Bearer {SECRET}\n"),))
    with Client(server.address) as client, pytest.raises(Invalid) as caught:
        client.request(request)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None and caught.value.__cause__ is None


@pytest.mark.parametrize("user", ["", "ana\n", "a" * 513, "\ud800"])
def test_a_bad_user_is_refused(user: str) -> None:
    with pytest.raises(Invalid, match="user: 1 to 512 characters"):
        Client("http://127.0.0.1:1", SECRET, user=user)
