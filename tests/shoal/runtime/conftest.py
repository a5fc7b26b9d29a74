"""HAProxy as Shoal configures it, without Ray, in front of a small server."""

import asyncio
import contextlib
import re
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from shoal.runtime.haproxy import find_binary
from shoal.runtime.haproxy_launcher import harden
from shoal.testing.servers import free_port

LIMITS = {"connections": 16_384, "per_address": 1024, "exempt": ["127.0.0.0/8", "::1"]}


def rays_configuration(folder: Path, port: int = 8000, server: int = 30_000) -> Path:
    """The file that Ray writes for HAProxy, from its template."""
    file = folder / "haproxy.cfg"
    options = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_enabled=True,
        metrics_socket_path=str(folder / "metrics.sock"),
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
        bufsize=131_072,  # as `haproxy_environment` sets it
    )
    options.http_options.host = "127.0.0.1"
    options.http_options.port = port
    api = HAProxyApi(options, config_file_path=str(file))
    api.set_backend_configs(
        {
            name: BackendConfig(
                name=name, path_prefix=f"/{name}", app_name=name, servers=[ServerConfig(*at)]
            )
            for name, at in (
                ("small", ("replica", "127.0.0.1", server)),
                ("dead", ("gone", "127.0.0.1", 9)),
            )
        }
    )
    api._generate_config_file_internal()
    return file


async def _health(request: Request) -> Response:
    return PlainTextResponse("success")


async def _length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


LARGE = b"x" * 50_000_000


async def _large(request: Request) -> Response:
    return Response(LARGE[: int(request.query_params["bytes"])])


async def _request_id(request: Request) -> Response:
    return PlainTextResponse(",".join(request.headers.getlist("x-request-id")))


async def _slow_stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(4)  # longer than a client may be silent within a request
        yield b"x"

    return StreamingResponse(chunks())


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


SMALL = Starlette(
    routes=[
        Route("/-/healthz", _health),
        Route("/small/length", _length, methods=["GET", "POST"]),
        Route("/small/large", _large),
        Route("/small/request-id", _request_id),
        Route("/small/stream", _slow_stream),
        WebSocketRoute("/small/echo", _echo),
    ]
)


@dataclass(frozen=True)
class Proxy:
    """A running HAProxy."""

    port: int
    folder: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def run_proxy(
    folder: Path, server: int, limits: dict[str, Any], **timeouts: float
) -> Iterator[Proxy]:
    """HAProxy in front of a server; with shorter timeouts, in seconds, by name."""
    binary = find_binary()
    if binary is None:
        pytest.skip("HAProxy is not installed")
    port = free_port()
    file = rays_configuration(folder, port, server)
    text = harden(file.read_text(), "127.0.0.1", limits)
    for name, seconds in timeouts.items():
        option = f"timeout {name.replace('_', '-')}"
        text, count = re.subn(rf"{option} \d+s", f"{option} {round(seconds * 1000)}ms", text)
        assert count, option
    for taken in (8404, 9101):  # a platform on this machine may have them
        text = text.replace(f"127.0.0.1:{taken}", f"127.0.0.1:{free_port()}")
    file.write_text(text)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([binary, "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not (folder / "admin.sock").exists():
            assert process.poll() is None, (folder / "haproxy.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Proxy(port, folder)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def small_server() -> Iterator[int]:
    """The port of a small ASGI server."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(SMALL, host="127.0.0.1", port=port, log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield port
    server.should_exit = server.force_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def proxy(small_server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """HAProxy with few connections, that waits a second for a request's head, and three
    for a byte.
    """
    folder = tmp_path_factory.mktemp("haproxy")
    limits = {"connections": 100, "per_address": 64, "exempt": ["127.0.0.1"]}
    with run_proxy(folder, small_server, limits, http_request=1, client=3) as running:
        yield running
