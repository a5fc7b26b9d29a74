"""Real servers that count connections, names that resolve as told, both clients."""

import asyncio
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from shoal import Egress

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Listener:
    """A server on loopback that counts connections and answers as it is told.

    Args:
        answer: The bytes of the answer, or a function that gets the connection.
        host: `127.0.0.1` or `::1`.
        tls: A server's context.
    """

    def __init__(
        self,
        answer: bytes | Callable[[socket.socket], None] = OK,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self.port: int = self._socket.getsockname()[1]
        self.answer, self.tls = answer, tls
        self.connections = 0
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            connection.settimeout(10)
            while data := connection.recv(65_536):
                self.requests.append(data)
                if callable(self.answer):
                    self.answer(connection)
                    return
                connection.sendall(self.answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(*args: Any, **options: Any) -> Listener:
        made.append(Listener(*args, **options))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


@dataclass
class Names:
    """What names resolve to: each look-up takes the next answer, the last one stays."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __setitem__(self, name: str, answers: list[list[str]]) -> None:
        self.answers[name] = answers


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    known, real = Names(), socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        host = host.decode() if isinstance(host, bytes) else host
        answers = known.answers.get(host)
        if answers is None:
            return real(host, port, *args, **options)
        answer = answers[min(known.asked[host], len(answers) - 1)]
        known.asked[host] += 1
        return [info for address in answer for info in real(address, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


Fetch = Callable[..., httpx.Response]


@pytest.fixture(params=["async", "blocking"])
def fetch(request: pytest.FixtureRequest) -> Fetch:
    """Sends one request with the asynchronous or the blocking client."""

    def blocking(egress: Egress, url: str, method: str = "GET", **options: Any) -> httpx.Response:
        sending = {k: options.pop(k) for k in ("content", "follow_redirects") if k in options}
        with egress.client(**{"timeout": 5, **options}) as http:
            return http.request(method, url, **sending)

    async def asynchronous(
        egress: Egress, url: str, method: str = "GET", **options: Any
    ) -> httpx.Response:
        sending = {k: options.pop(k) for k in ("content", "follow_redirects") if k in options}
        async with egress.async_client(**{"timeout": 5, **options}) as http:
            return await http.request(method, url, **sending)

    if request.param == "blocking":
        return blocking
    return lambda *args, **options: asyncio.run(asynchronous(*args, **options))
