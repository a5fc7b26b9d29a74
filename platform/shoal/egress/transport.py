"""Transports for httpx that connect only where a policy permits.

A host is resolved once for a connection, and the connection is made to one of those
addresses, so a name that changes in between has no effect. TLS verifies the name.
"""

import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import anyio
import httpcore
import httpx

from .policy import EgressRefused, Policy

log = logging.getLogger("shoal.egress")

MAX_ADDRESSES = 4
"""Addresses of a host that are tried."""
POOL: dict[str, Any] = {
    "max_connections": 100,
    "max_keepalive_connections": 20,
    "keepalive_expiry": 30.0,
}

_deadline: ContextVar[float] = ContextVar("deadline")
"""When the current request must be over, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client's requests are held to.

    policy: Where they may go.
    seconds: How long each may take, with its response.
    max_bytes: The size of a response.
    proxy: The address of a proxy for hosts that the operator has not named.
    """

    policy: Policy
    seconds: float
    max_bytes: int
    proxy: httpx.Proxy | None = None


def ssl_context() -> ssl.SSLContext:
    """The certificate authorities: certifi's, or those that `SSL_CERT_FILE` names."""
    return _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _ssl_context(*_: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reads the same variables


class BlockingTransport(httpx.BaseTransport):
    """For `httpx.Client`."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._pool = httpcore.ConnectionPool(
            ssl_context(), network_backend=_BlockingBackend(bounds.policy), **POOL
        )
        self._proxied = self._pool
        if bounds.proxy is not None:
            self._proxied = httpcore.HTTPProxy(
                **_proxy_options(bounds.proxy), network_backend=_BlockingBackend(None), **POOL
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        policy, deadline = self._bounds.policy, time.monotonic() + self._bounds.seconds
        policy.check(request.url)
        pool = self._pool if policy.is_listed(request.url) else self._proxied
        with _until(deadline):
            answer = pool.handle_request(_to_httpcore(request))
        return _to_httpx(answer, _BlockingBody(answer, deadline, self._bounds.max_bytes))

    def close(self) -> None:
        self._pool.close()
        self._proxied.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient`."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context(), network_backend=_AsyncBackend(bounds.policy), **POOL
        )
        self._proxied = self._pool
        if bounds.proxy is not None:
            self._proxied = httpcore.AsyncHTTPProxy(
                **_proxy_options(bounds.proxy), network_backend=_AsyncBackend(None), **POOL
            )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        policy, deadline = self._bounds.policy, time.monotonic() + self._bounds.seconds
        policy.check(request.url)
        pool = self._pool if policy.is_listed(request.url) else self._proxied
        with _until(deadline):
            answer = await pool.handle_async_request(_to_httpcore(request))
        return _to_httpx(answer, _AsyncBody(answer, deadline, self._bounds.max_bytes))

    async def aclose(self) -> None:
        await self._pool.aclose()
        await self._proxied.aclose()


def _proxy_options(proxy: httpx.Proxy) -> dict[str, Any]:
    return {
        "proxy_url": str(proxy.url),
        "proxy_auth": proxy.raw_auth,
        "ssl_context": ssl_context(),
        "proxy_ssl_context": ssl_context() if proxy.url.scheme == "https" else None,
    }


# Requests and responses


def _to_httpcore(request: httpx.Request) -> httpcore.Request:
    url = httpcore.URL(
        scheme=request.url.raw_scheme,
        host=request.url.raw_host,
        port=request.url.port,
        target=request.url.raw_path,
    )
    return httpcore.Request(
        request.method,
        url,
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _to_httpx(answer: httpcore.Response, body: Any) -> httpx.Response:
    # Without its location, a redirect is followed by no client.
    headers = [(name, value) for name, value in answer.headers if name.lower() != b"location"]
    return httpx.Response(answer.status, headers=headers, stream=body, extensions=answer.extensions)


class _Body:
    """The bytes of a response, up to a number and a time."""

    def __init__(self, answer: httpcore.Response, deadline: float, max_bytes: int) -> None:
        self._stream: Any = answer.stream
        self._deadline, self._max_bytes, self._count = deadline, max_bytes, 0
        # Compressed bytes would have no bound; they were not asked for.
        self._is_compressed = any(
            name.lower() == b"content-encoding" and value.lower() != b"identity"
            for name, value in answer.headers
        )

    def check(self, chunk: bytes) -> bytes:
        self._count += len(chunk)
        if self._is_compressed:
            raise EgressRefused("the response is compressed, which was not asked for")
        if self._count > self._max_bytes:
            raise EgressRefused(f"the response is over the limit of {self._max_bytes:,} bytes")
        return chunk


class _BlockingBody(_Body, httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._stream)
        while True:
            with _until(self._deadline):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield self.check(chunk)

    def close(self) -> None:
        self._stream.close()


class _AsyncBody(_Body, httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            with _until(self._deadline):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield self.check(chunk)

    async def aclose(self) -> None:
        await self._stream.aclose()


# Connections


class _BlockingBackend(httpcore.NetworkBackend):
    """Connects where a policy permits; to any address if there is none."""

    def __init__(self, policy: Policy | None) -> None:
        self._policy, self._network = policy, httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _unresolved(host) from error
        failure: Exception | None = None
        for address in _permitted(self._policy, host, port, found):
            try:
                seconds = _remaining(timeout, httpcore.ConnectTimeout)
                stream = self._network.connect_tcp(address, port, seconds, *args, **options)
                return _BlockingStream(stream)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or _unresolved(host)


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """`_BlockingBackend` for asyncio."""

    def __init__(self, policy: Policy | None) -> None:
        self._policy, self._network = policy, httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        try:
            with anyio.fail_after(_remaining(timeout, httpcore.ConnectTimeout)):
                found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the host's name was not resolved in time") from error
        except OSError as error:
            raise _unresolved(host) from error
        failure: Exception | None = None
        for address in _permitted(self._policy, host, port, found):
            try:
                seconds = _remaining(timeout, httpcore.ConnectTimeout)
                stream = await self._network.connect_tcp(address, port, seconds, *args, **options)
                return _AsyncStream(stream)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or _unresolved(host)


class _BlockingStream(httpcore.NetworkStream):
    """A connection whose steps end with the request's deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self.close = stream.close  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _remaining(timeout, httpcore.ConnectTimeout)
        return _BlockingStream(self._stream.start_tls(ssl_context, server_hostname, timeout))


class _AsyncStream(httpcore.AsyncNetworkStream):
    """`_BlockingStream` for asyncio."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self.aclose = stream.aclose  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        timeout = _remaining(timeout, httpcore.ConnectTimeout)
        return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))


def _permitted(
    policy: Policy | None, host: str, port: int, found: Sequence[tuple[Any, ...]]
) -> list[str]:
    """The addresses, of those that a host resolved to, that may be connected to."""
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if policy is None:
        return addresses[:MAX_ADDRESSES]
    permitted = [a for a in addresses if policy.is_permitted(host, port, ip_address(a))]
    if not permitted:
        log.warning("refused to connect to %s, which is %s", host, ", ".join(addresses))
    return permitted[:MAX_ADDRESSES]


def _unresolved(host: str) -> EgressRefused:
    # The same for both, so that nobody learns the names of a private network from it.
    return EgressRefused(f"the host {host} has no public address")


def _remaining(timeout: float | None, error: type[Exception]) -> float:
    """Seconds that the next step may take; raises `error` if there are none."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise error("the request took too long")
    return left if timeout is None else min(timeout, left)


@contextmanager
def _until(deadline: float) -> Iterator[None]:
    """Set the deadline of what httpcore does inside; raise its errors as httpx's."""
    token = _deadline.set(deadline)
    try:
        yield
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.TimeoutException,
    ) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
    finally:
        _deadline.reset(token)
