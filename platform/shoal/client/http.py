"""The Python clients, blocking and asynchronous.

    with shoal.Client("http://127.0.0.1:8000", key="shoal_…") as client:
        client.search.search(q="login page is slow", limit=3)

Each capability is an attribute and each operation of its OpenAPI document a method:
nothing here is written for one of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import httpx
from tenacity import AsyncRetrying, Retrying

from shoal.contract.errors import Invalid
from shoal.contract.names import check_text
from shoal.contract.operations import Operation, OperationRequest, operations

from .ray import RayTransport
from .response import Response, unreachable
from .retry import RETRIES, retry_options


def identity_headers(key: str | None, user: str | None) -> dict[str, str]:
    """The headers that say who is calling.

    Raises:
        Invalid: The key or the user cannot be sent; the message does not repeat them.
    """
    headers = {}
    key = (key or "").strip()  # a key read from a file ends with a newline
    if key:
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise Invalid("the key has a character that no API key or JWT has; copy it again")
        headers["authorization"] = f"Bearer {key}"
    if user is not None:
        try:
            headers["shoal-user"] = check_text(user)
        except ValueError as error:
            raise Invalid(f"user: {error}") from None
    return headers


class _BaseClient:
    def __init__(
        self,
        address: str,
        key: str | None = None,
        *,
        user: str | None = None,
        timeout: float = 30.0,
        retries: int = RETRIES,
    ) -> None:
        self.address = address.rstrip("/")
        self._headers = identity_headers(key, user)
        self._timeout = timeout
        self._retries = retries
        self._operations: dict[str, dict[str, Operation]] = {}
        self._ray = RayTransport(self.address) if address.startswith("ray://") else None

    def __repr__(self) -> str:  # without the key
        return f"{type(self).__name__}({self.address!r})"

    def _http_request(self, request: OperationRequest) -> dict[str, Any]:
        """Arguments for httpx, the headers as the UTF-8 that the platform reads."""
        headers = {**self._headers, **dict(request.headers)}
        return {
            "method": request.method,
            "url": request.path,
            "params": request.query,
            "content": request.body,
            "headers": {name.encode(): value.encode() for name, value in headers.items()},
        }

    def _operation(self, capability: str, operation: str) -> Operation:
        known = self._operations[capability]
        if operation not in known:
            raise AttributeError(
                f"{capability} has no operation {operation!r}; it has {', '.join(sorted(known))}"
            )
        return known[operation]


class Client(_BaseClient):
    """A blocking client.

    Idempotent calls, and those that declare that they change nothing, are retried with
    backoff while the platform is unavailable. A call refused for a limit is retried
    whatever it does.

    Args:
        address: `http(s)://host:port`, or `ray://host:port` for a cluster's Ray client
            port.
        key: An API key or a JWT; blanks around it are removed.
        user: The user to act for, sent as `Shoal-User`.
        timeout: Seconds per attempt.
        retries: Further attempts after the first; 0 turns retries off.

    Raises:
        Invalid: The key or the user cannot be sent; the message does not repeat them.
        ShoalError: Every call raises one of its subclasses (`NotFound`,
            `LimitExceeded`, …) when the platform refuses it or does not answer.
    """

    def __init__(self, address: str, key: str | None = None, **options: Any) -> None:
        super().__init__(address, key, **options)
        self._http = (
            None if self._ray else httpx.Client(base_url=self.address, timeout=self._timeout)
        )

    def request(self, request: OperationRequest, *, safe: bool | None = None) -> Any:
        """Send one request.

        Args:
            request: What to send.
            safe: Whether it may be sent twice; by default, whether its method is
                idempotent.

        Returns:
            The decoded response: JSON, or bytes.

        Raises:
            ShoalError: The platform refused the call or does not answer.
        """
        safe = request.idempotent if safe is None else safe
        return Retrying(**retry_options(self._retries, safe))(lambda: self._send(request).value())

    def _send(self, request: OperationRequest) -> Response:
        if self._ray:
            return self._ray.send(request, self._headers, self._timeout)
        assert self._http
        try:
            answer = self._http.request(**self._http_request(request))
        except httpx.LocalProtocolError:
            answer = None  # its message repeats the header, which may be a credential
        except httpx.TransportError as error:
            raise unreachable(self.address, error) from error
        if answer is None:
            raise Invalid("a header of the request has a character that HTTP does not allow")
        return Response(answer.status_code, answer.headers, answer.content)

    def operations(self, capability: str) -> dict[str, Operation]:
        """The capability's operations by id, fetched once."""
        if capability not in self._operations:
            document = self.request(OperationRequest("GET", f"/{capability}/openapi.json"))
            self._operations[capability] = operations(document)
        return self._operations[capability]

    def __getattr__(self, capability: str) -> "CapabilityMethods":
        if capability.startswith("_"):
            raise AttributeError(capability)
        return CapabilityMethods(self, capability)

    def close(self) -> None:
        """Close the connections."""
        if self._http:
            self._http.close()
        if self._ray:
            self._ray.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CapabilityMethods:
    """The operations of one capability as methods: `client.search.search(q="…")`."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("__"):
            raise AttributeError(operation)
        self._client.operations(self._name)
        found = self._client._operation(self._name, operation)

        def call(**arguments: Any) -> Any:
            request = found.request(arguments)
            return self._client.request(request, safe=request.idempotent or found.safe)

        call.__name__, call.__doc__ = operation, found.summary
        return call

    def __dir__(self) -> list[str]:
        return sorted(self._client.operations(self._name))


class AsyncClient(_BaseClient):
    """`Client` for asyncio: `await client.search.search(q="…")`."""

    def __init__(self, address: str, key: str | None = None, **options: Any) -> None:
        super().__init__(address, key, **options)
        self._http = (
            None if self._ray else httpx.AsyncClient(base_url=self.address, timeout=self._timeout)
        )

    async def request(self, request: OperationRequest, *, safe: bool | None = None) -> Any:
        """Send one request; see `Client.request`."""
        safe = request.idempotent if safe is None else safe

        async def attempt() -> Any:
            return (await self._send(request)).value()

        return await AsyncRetrying(**retry_options(self._retries, safe))(attempt)

    async def _send(self, request: OperationRequest) -> Response:
        if self._ray:
            return await asyncio.to_thread(self._ray.send, request, self._headers, self._timeout)
        assert self._http
        try:
            answer = await self._http.request(**self._http_request(request))
        except httpx.LocalProtocolError:
            answer = None  # its message repeats the header, which may be a credential
        except httpx.TransportError as error:
            raise unreachable(self.address, error) from error
        if answer is None:
            raise Invalid("a header of the request has a character that HTTP does not allow")
        return Response(answer.status_code, answer.headers, answer.content)

    async def operations(self, capability: str) -> dict[str, Operation]:
        """The capability's operations by id, fetched once."""
        if capability not in self._operations:
            document = await self.request(OperationRequest("GET", f"/{capability}/openapi.json"))
            self._operations[capability] = operations(document)
        return self._operations[capability]

    def __getattr__(self, capability: str) -> "AsyncCapabilityMethods":
        if capability.startswith("_"):
            raise AttributeError(capability)
        return AsyncCapabilityMethods(self, capability)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http:
            await self._http.aclose()
        if self._ray:
            await asyncio.to_thread(self._ray.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncCapabilityMethods:
    """The operations of one capability as coroutine functions."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client, self._name = client, name

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        if operation.startswith("__"):
            raise AttributeError(operation)

        async def call(**arguments: Any) -> Any:
            await self._client.operations(self._name)
            found = self._client._operation(self._name, operation)
            request = found.request(arguments)
            return await self._client.request(request, safe=request.idempotent or found.safe)

        call.__name__ = operation
        return call
