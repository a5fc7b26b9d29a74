"""Clients that send or read slowly stop nobody else, and are closed."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from .conftest import LIMITS, Proxy, run_proxy

ATTACKER = "127.0.0.2"
"""Another address than the good client's, and not exempt from the limit of 64."""
REQUEST = b"POST /small/length HTTP/1.1\r\nHost: a\r\n"


def open_socket(proxy: Proxy, source: str = ATTACKER) -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", proxy.port), timeout=10, source_address=(source, 0)
    )


def send_byte_by_byte(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def stay_idle(connection: socket.socket) -> None:
    connection.recv(1)


def drip_headers(connection: socket.socket) -> None:
    send_byte_by_byte(connection, REQUEST + b"X: " + b"a" * 1000)


def drip_body(connection: socket.socket) -> None:
    connection.sendall(REQUEST + b"Content-Length: 1000\r\n\r\n")
    send_byte_by_byte(connection, b"a" * 1000)


def announce_a_body(connection: socket.socket) -> None:
    connection.sendall(REQUEST + b"Content-Length: 1000\r\n\r\n")
    connection.recv(1)


def read_slowly(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(b"GET /small/large?bytes=2000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(25):
        connection.recv(1)
        time.sleep(0.2)


def ask_again_and_again(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"GET /nosuch HTTP/1.1\r\nHost: a\r\n\r\n")
        if not connection.recv(10_000):
            return
        time.sleep(0.5)


ATTACKS = [
    stay_idle,
    drip_headers,
    drip_body,
    announce_a_body,
    read_slowly,
    ask_again_and_again,
]


@contextlib.contextmanager
def attack(proxy: Proxy, how: Callable[[socket.socket], None], clients: int) -> Iterator[None]:
    """Have so many clients attack in threads, reconnecting whenever they are closed."""
    ended, open_now = threading.Event(), set[socket.socket]()

    def attacker() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), open_socket(proxy) as connection:
                open_now.add(connection)
                if not ended.is_set():
                    how(connection)
            ended.wait(0.05)

    threads = [threading.Thread(target=attacker) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for connection in list(open_now):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("how", ATTACKS, ids=lambda how: how.__name__)
def test_good_clients_are_served_during_an_attack(
    proxy: Proxy, how: Callable[[socket.socket], None]
) -> None:
    with attack(proxy, how, 200):
        time.sleep(1)
        for _ in range(60):  # each on a new connection
            answer = httpx.post(f"{proxy.address}/small/length", content=b"12345", timeout=10)
            assert (answer.status_code, answer.text) == (200, "5")


def test_thousands_of_idle_connections_stop_nobody(small_server: int, tmp_path: Path) -> None:
    with run_proxy(tmp_path, small_server, LIMITS) as proxy, contextlib.ExitStack() as stack:
        for _ in range(4096):
            stack.enter_context(open_socket(proxy, "127.0.0.1"))
        assert httpx.get(f"{proxy.address}/small/request-id").status_code == 200


def test_an_idle_connection_is_closed(proxy: Proxy) -> None:
    with open_socket(proxy) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(4096) == b""


def test_dripped_headers_do_not_hold_a_connection(proxy: Proxy) -> None:
    with open_socket(proxy) as connection, pytest.raises(OSError):  # it is closed under way
        send_byte_by_byte(connection, b"GET / HTTP/1.1\r\nX: " + b"a" * 100)


def test_a_reader_that_stopped_is_closed(proxy: Proxy) -> None:
    with open_socket(proxy) as connection:
        connection.sendall(b"GET /small/large?bytes=50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(5)  # the limit is three
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 20):
                received += len(data)
        assert received < 50_000_000


def test_connections_from_one_address_are_limited(proxy: Proxy) -> None:
    accepted = 0
    with contextlib.ExitStack() as stack:
        for _ in range(90):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(open_socket(proxy))
                connection.sendall(b"GET /nosuch HTTP/1.1\r\nHost: a\r\n\r\n")
                accepted += connection.recv(12) == b"HTTP/1.1 404"
    assert accepted == 64


def test_an_early_response_reaches_a_client_that_still_sends(proxy: Proxy) -> None:
    with open_socket(proxy) as connection:
        connection.sendall(b"POST /small/large HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 405 ")  # without the body


def test_a_long_stream_of_long_pauses_is_delivered(proxy: Proxy) -> None:
    with httpx.stream("GET", f"{proxy.address}/small/stream", timeout=10) as response:
        assert response.read() == b"xx"


def test_a_silent_websocket_lives(proxy: Proxy) -> None:
    with connect(f"ws://127.0.0.1:{proxy.port}/small/echo") as websocket:
        for text in ("before", "after"):
            websocket.send(text)
            assert websocket.recv(timeout=10) == text
            time.sleep(4)  # longer than a client may be silent within a request
