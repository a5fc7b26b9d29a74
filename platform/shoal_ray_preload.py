"""What Ray's own processes import of Shoal: less memory, and quicker reads.

Importing it keeps pandas and pyarrow out of processes that do not use them, and
`middlewares` makes Serve's HTTP servers ignore that the client of a read disconnected,
and gives every request one id. docs/benchmarks.md has the figures. It is a module of
its own, since Ray's workers import it before anything else, and most of them import
nothing else of Shoal.
"""

import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PANDAS_OPTIONAL = ("ray.serve._private.utils", "sklearn.utils.fixes")
"""Modules that import pandas where it is installed, but need it for nothing here."""
ENVIRONMENT = {
    "RAY_preload_python_modules": __name__,
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}.middlewares",
}
"""Has Ray's workers import this module, and Serve's servers use `middlewares`."""


REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""As the Router's, `shoal.router.request_head`."""
PHRASES = {status.value: status.phrase for status in HTTPStatus}
DETAILS = {
    404: "there is nothing at this path",
    408: "the request took too long",
    500: "internal error; it was logged with the request's id",
    503: "no replica is ready to answer; try again in a moment",
}


class PandasFinder(MetaPathFinder):
    """Hides pandas from the modules of `PANDAS_OPTIONAL`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas" and (importer := _importing_module()) in PANDAS_OPTIONAL:
            raise ModuleNotFoundError(f"{importer} does not need {name}", name=name)
        return None


def _importing_module() -> str:
    """The module whose import statement is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        (__name__, "importlib")
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


sys.meta_path.insert(0, PandasFinder())


class IgnoreDisconnect:
    """ASGI middleware: a read is finished after its client disconnected.

    Serve runs two tasks for each request to notice a disconnect, and leaves them out
    for a header of its own (Ray 2.60, `ray.serve._private.http_util`). Other requests,
    which may write or work for long, are still cancelled.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            scope["headers"].append((b"x-request-disconnect-disabled", b"?1"))
        await self.app(scope, receive, send)


class OneRequestId:
    """ASGI middleware: one id of a request everywhere, and problems for Serve's errors.

    Serve takes any X-Request-ID, passes on several, and adds its own to a response that
    has one. Its own errors are plain text without an id, and it lists the applications
    to everybody.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = [value for name, value in scope["headers"] if name == b"x-request-id"]
        if len(sent) != 1 or not REQUEST_ID.fullmatch(sent[0]):
            kept = [h for h in scope["headers"] if h[0] != b"x-request-id"]
            sent = [os.urandom(16).hex().encode()]
            scope["headers"] = [*kept, (b"x-request-id", sent[0])]
        if scope["path"] == "/-/routes":
            await send_problem(send, 404, sent[0])
            return
        replaced = False

        async def send_once(message: MutableMapping[str, Any]) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                headers = [h for h in message["headers"] if h[0] != b"x-request-id"]
                by_router = len(message["headers"]) - len(headers) > 1
                status = message["status"]
                if status >= 400 and not by_router and is_plain_text(headers):
                    replaced = True
                    retry = [h for h in headers if h[0].lower() == b"retry-after"]
                    await send_problem(send, status, sent[0], retry)
                    return
                message["headers"] = [*headers, (b"x-request-id", sent[0])]
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_once)


def is_plain_text(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/plain")
        for name, value in headers
    )


async def send_problem(
    send: Any, status: int, request_id: bytes, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Respond with an error of Serve's as a problem (RFC 9457)."""
    title = PHRASES.get(status, "Error").capitalize()
    problem = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": DETAILS.get(status, title),
        "request_id": request_id.decode(),
    }
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def middlewares() -> list[Any]:
    """The middlewares of Serve's HTTP servers, in proxies and ingress replicas."""
    from starlette.middleware import Middleware

    return [Middleware(IgnoreDisconnect), Middleware(OneRequestId)]


if __name__ == "__main__":  # the command `ray`, in a process that keeps pandas out
    from ray.scripts.scripts import main

    main()  # type: ignore[no-untyped-call]
