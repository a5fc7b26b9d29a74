"""What Ray's own processes import of Shoal."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

import shoal_ray_preload


@pytest.mark.parametrize("module", ["ray.serve", "sklearn"])
def test_pandas_is_imported_only_by_those_who_use_it(module: str) -> None:
    script = f"""
import sys
import shoal_ray_preload
assert not {{name for name in sys.modules if name.startswith("shoal.")}}
import {module}
assert not {{"pandas", "pyarrow"}} & sys.modules.keys(), "it was imported"
import pandas
assert pandas.DataFrame({{"a": [1]}}).a.sum() == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "method", "left"),
    [
        ("http", "GET", True),
        ("http", "HEAD", True),
        ("http", "POST", False),
        ("websocket", "", False),
    ],
)
def test_only_reads_continue_after_a_disconnect(kind: str, method: str, left: bool) -> None:
    from ray.serve._private.http_util import parse_disconnect_disabled_header as disabled

    found: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        found.append(scope)

    middleware, _ = shoal_ray_preload.middlewares()
    scope = {
        "type": kind,
        "headers": [(b"x-request-disconnect-disabled", b"?0")] if left else [],
        **({"method": method} if method else {}),
    }
    asyncio.run(middleware.cls(app, *middleware.args, **middleware.kwargs)(scope, None, None))
    assert disabled(dict(found[0]["headers"])) is left


# One id, and problems for Serve's errors


async def ask(
    status: int, headers: list[tuple[bytes, bytes]], *sent: bytes, path: str = "/x"
) -> tuple[dict[bytes, bytes], bytes, bytes]:
    """Headers, body and the id that the application saw, for its response.

    Serve adds the id that it saw to the response, below these middlewares.
    """
    messages: list[dict[str, Any]] = []
    seen: list[bytes] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"x-request-id")
        start = {"type": "http.response.start", "status": status}
        await send({**start, "headers": [*headers, (b"x-request-id", seen[0])]})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    middleware = shoal_ray_preload.OneRequestId(app)
    found = [(b"x-request-id", value) for value in sent]
    scope = {"type": "http", "method": "GET", "path": path, "headers": found}
    await middleware(scope, None, send)
    [request_id] = [v for n, v in messages[0]["headers"] if n == b"x-request-id"]
    assert seen in ([request_id], [])
    return dict(messages[0]["headers"]), b"".join(m["body"] for m in messages[1:]), request_id


@pytest.mark.parametrize(
    ("sent", "kept"),
    [([b"a.b:c-1_"], True), ([b"a b"], False), ([b""], False), ([b"a", b"b"], False), ([], False)],
)
def test_every_request_has_one_acceptable_id(sent: list[bytes], kept: bool) -> None:
    _, body, request_id = asyncio.run(ask(200, [(b"content-type", b"text/plain")], *sent))
    assert body == b"one two"
    assert (request_id in sent) is kept
    assert shoal_ray_preload.REQUEST_ID.fullmatch(request_id)


@pytest.mark.parametrize("status", [400, 404, 408, 429, 499, 500, 503])
def test_serves_own_errors_become_problems(status: int) -> None:
    plain = [(b"content-type", b"text/plain"), (b"retry-after", b"7")]
    headers, body, request_id = asyncio.run(ask(status, plain))
    problem = json.loads(body)
    assert headers[b"content-type"] == b"application/problem+json"
    assert (problem["status"], problem["request_id"]) == (status, request_id.decode())
    assert problem["title"] and problem["detail"] and headers[b"retry-after"] == b"7"
    assert headers[b"content-length"] == str(len(body)).encode()


def test_errors_of_a_capability_are_left_alone() -> None:
    plain, id_ = (b"content-type", b"text/plain"), (b"x-request-id", b"mine")  # the Router's
    _, body, request_id = asyncio.run(ask(400, [plain, id_], b"mine"))
    assert (body, request_id) == (b"one two", b"mine")
    assert asyncio.run(ask(400, [(b"content-type", b"text/html")]))[1] == b"one two"


def test_the_list_of_applications_is_closed() -> None:
    headers, body, _ = asyncio.run(ask(200, [], path="/-/routes"))
    assert json.loads(body)["status"] == 404
    assert headers[b"content-type"] == b"application/problem+json"


def test_the_router_accepts_the_same_ids() -> None:
    from shoal.router.request_head import REQUEST_ID

    assert REQUEST_ID.pattern == shoal_ray_preload.REQUEST_ID.pattern
