"""The Python client, over HTTP or through a Ray cluster: the same methods, the same
results, the same refusals.

    with shoal.Client("http://127.0.0.1:8000", key="shoal_…") as client:
        client.search.search(q="login page is slow", limit=3)

Every capability is an attribute, and each operation of its OpenAPI a method of it;
nothing here knows them by name.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Self

import httpx

from shoal.contract.errors import LimitExceeded, NotFound, ShoalError, Unavailable
from shoal.contract.operations import Operation, OperationRequest, decode, operations

Response = tuple[int, str, dict[str, str], bytes]
"""Status, content type, headers (lower case), body."""

RETRIES = 4


def _pause(attempt: int, error: ShoalError) -> float:
    """Seconds before the next attempt: what the server asked for, else full-jitter
    exponential backoff from 0.1 s.
    """
    if error.retry_after is not None:
        return min(error.retry_after, 10.0)
    return random.uniform(0, 0.1 * 2**attempt)


def _retriable(error: Exception, safe: bool) -> bool:
    return isinstance(error, LimitExceeded) or (safe and isinstance(error, Unavailable))


def _error_for_transport(error: Exception, address: str) -> Unavailable:
    return Unavailable(f"{address} does not answer: {type(error).__name__}: {error}".rstrip(": "))


class _Base:
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
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        if user is not None:
            self._headers["shoal-user"] = user
        self._timeout = timeout
        self._retries = retries
        self._known: dict[str, dict[str, Operation]] = {}

    def __repr__(self) -> str:  # never the key
        return f"{type(self).__name__}({self.address!r})"

    def _sent(self, call: OperationRequest) -> dict[bytes, bytes]:
        """The headers of a call in UTF-8, as the platform reads them."""
        return {
            name.encode(): value.encode()
            for name, value in {**self._headers, **dict(call.headers)}.items()
        }

    def _decode(self, response: Response) -> Any:
        status, kind, headers, body = response
        try:
            return decode(status, kind, body)
        except ShoalError as error:
            if (
                error.retry_after is None
                and headers.get("retry-after", "").replace(".", "", 1).isdigit()
            ):
                error.retry_after = float(headers["retry-after"])
            error.request_id = error.request_id or headers.get("x-request-id")
            raise

    def _find(self, capability: str, operation: str) -> Operation:
        known = self._known[capability]
        if operation not in known:
            raise AttributeError(
                f"{capability} has no operation {operation!r}; it has {', '.join(sorted(known))}"
            )
        return known[operation]


class _Ray:
    """Requests through Serve handles of a cluster, each driving the same ingress
    application as HTTP does.

    A process has one Ray connection: clients of the same address share it, and it is
    closed with the last of them. A process that is connected to Ray already (`ray.init`
    before) keeps its own.
    """

    _users: ClassVar[dict[str, int]] = {}

    def __init__(self, address: str) -> None:
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        self._ray, self._serve, self._address = ray, serve, address
        if not self._users and not ray.is_initialized():
            self._connect()
            self._users[address] = 0
        elif self._users and address not in self._users:
            raise Unavailable(
                f"this process is connected to {next(iter(self._users))}, and to one Ray cluster at a time"
            )
        if address in self._users:
            self._users[address] += 1
        self._handles: dict[str, Any] = {}

    def _connect(self) -> None:
        for attempt in (1, 2):
            try:
                self._ray.init(self._address, namespace="shoal", logging_level=logging.ERROR)
                return
            except ConnectionError as error:
                # The cluster starts a process for each client. When that dies at birth,
                # as one in some hundreds does, this is told.
                if attempt == 2 or not isinstance(error, ConnectionAbortedError):
                    raise _error_for_transport(error, self._address) from error

    def send(self, call: OperationRequest, headers: dict[str, str], timeout: float) -> Response:
        name = call.path.split("/")[1]
        try:
            if name not in self._handles:
                self._handles[name] = self._serve.get_app_handle(name)
        except self._serve.exceptions.RayServeException:
            raise NotFound(f"no capability {name!r} is deployed") from None
        try:
            status, found, body = (
                self._handles[name]
                .call_application.remote(call, {**headers, **dict(call.headers)})
                .result(timeout_s=timeout)
            )
        except (TimeoutError, ConnectionError, self._ray.exceptions.RayError) as error:
            raise _error_for_transport(error, self._address) from error
        return status, found.get("content-type", ""), found, body

    def close(self) -> None:
        for handle in self._handles.values():
            handle.shutdown()
        self._handles.clear()
        if self._address in self._users:
            self._users[self._address] -= 1
            if not self._users[self._address]:
                del self._users[self._address]
                self._ray.shutdown()


class Client(_Base):
    """A blocking client. `address` is `http(s)://host:port`, or `ray://host:port` for a
    Ray cluster's client port.

    Raises the errors of `shoal` (`NotFound`, `LimitExceeded`, …). Reads and other
    idempotent calls are tried again when the platform is away or busy, with backoff; a
    call that changes something is sent once, unless it was refused for a limit.
    """

    def __init__(self, address: str, key: str | None = None, **options: Any) -> None:
        super().__init__(address, key, **options)
        self._ray = _Ray(self.address) if address.startswith("ray://") else None
        self._http = (
            None if self._ray else httpx.Client(base_url=self.address, timeout=self._timeout)
        )

    def request(self, call: OperationRequest, *, safe: bool | None = None) -> Any:
        """Send one call and decode its answer."""
        safe = call.idempotent if safe is None else safe
        attempt = 0
        while True:
            try:
                return self._decode(self._send(call))
            except ShoalError as error:
                if attempt >= self._retries or not _retriable(error, safe):
                    raise
                time.sleep(_pause(attempt, error))
                attempt += 1

    def _send(self, call: OperationRequest) -> Response:
        if self._ray:
            return self._ray.send(call, self._headers, self._timeout)
        assert self._http
        try:
            answer = self._http.request(
                call.method,
                call.path,
                params=call.query,
                content=call.body,
                headers=self._sent(call),
            )
        except httpx.TransportError as error:
            raise _error_for_transport(error, self.address) from error
        return (
            answer.status_code,
            answer.headers.get("content-type", ""),
            dict(answer.headers),
            answer.content,
        )

    def operations(self, capability: str) -> dict[str, Operation]:
        """The capability's operations by id, fetched once."""
        if capability not in self._known:
            self._known[capability] = operations(
                self.request(OperationRequest("GET", f"/{capability}/openapi.json"))
            )
        return self._known[capability]

    def __getattr__(self, capability: str) -> "_Capability":
        if capability.startswith("_"):
            raise AttributeError(capability)
        return _Capability(self, capability)

    def close(self) -> None:
        if self._http:
            self._http.close()
        if self._ray:
            self._ray.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Capability:
    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("__"):
            raise AttributeError(operation)
        self._client.operations(self._name)
        found = self._client._find(self._name, operation)

        def call(**arguments: Any) -> Any:
            request = found.request(arguments)
            return self._client.request(request, safe=request.idempotent or found.safe)

        call.__name__, call.__doc__ = operation, found.summary
        return call

    def __dir__(self) -> list[str]:
        return sorted(self._client.operations(self._name))


class AsyncClient(_Base):
    """The same for asyncio: `await client.search.search(q="…")`."""

    def __init__(self, address: str, key: str | None = None, **options: Any) -> None:
        super().__init__(address, key, **options)
        self._ray = _Ray(self.address) if address.startswith("ray://") else None
        self._http = (
            None if self._ray else httpx.AsyncClient(base_url=self.address, timeout=self._timeout)
        )

    async def request(self, call: OperationRequest, *, safe: bool | None = None) -> Any:
        """Send one call and decode its answer."""
        safe = call.idempotent if safe is None else safe
        attempt = 0
        while True:
            try:
                return self._decode(await self._send(call))
            except ShoalError as error:
                if attempt >= self._retries or not _retriable(error, safe):
                    raise
                await asyncio.sleep(_pause(attempt, error))
                attempt += 1

    async def _send(self, call: OperationRequest) -> Response:
        if self._ray:
            return await asyncio.to_thread(self._ray.send, call, self._headers, self._timeout)
        assert self._http
        try:
            answer = await self._http.request(
                call.method,
                call.path,
                params=call.query,
                content=call.body,
                headers=self._sent(call),
            )
        except httpx.TransportError as error:
            raise _error_for_transport(error, self.address) from error
        return (
            answer.status_code,
            answer.headers.get("content-type", ""),
            dict(answer.headers),
            answer.content,
        )

    async def operations(self, capability: str) -> dict[str, Operation]:
        """The capability's operations by id, fetched once."""
        if capability not in self._known:
            self._known[capability] = operations(
                await self.request(OperationRequest("GET", f"/{capability}/openapi.json"))
            )
        return self._known[capability]

    def __getattr__(self, capability: str) -> "_AsyncCapability":
        if capability.startswith("_"):
            raise AttributeError(capability)
        return _AsyncCapability(self, capability)

    async def aclose(self) -> None:
        if self._http:
            await self._http.aclose()
        if self._ray:
            await asyncio.to_thread(self._ray.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _AsyncCapability:
    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client, self._name = client, name

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        if operation.startswith("__"):
            raise AttributeError(operation)

        async def call(**arguments: Any) -> Any:
            await self._client.operations(self._name)
            found = self._client._find(self._name, operation)
            request = found.request(arguments)
            return await self._client.request(request, safe=request.idempotent or found.safe)

        call.__name__ = operation
        return call
