"""What the clients may do: the operator's list, TLS, bounds, a proxy."""

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme
from pydantic import ValidationError

from shoal import Egress, EgressRefused

from .conftest import OK, Fetch, Listener, Names


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "127.0.0.1:{port}", "127.0.0.0/8", "hooks.test", "HOOKS.test:{port}"]
)
def test_what_the_operator_lists_is_reached(
    entry: str, fetch: Fetch, names: Names, listen: Callable[..., Listener]
) -> None:
    server, other = listen(), listen()
    names["hooks.test"] = [["127.0.0.1"]]
    host = "hooks.test" if "hooks" in entry.lower() else "127.0.0.1"
    egress = Egress(allow=(entry.format(port=server.port),))
    assert fetch(egress, f"http://{host}:{server.port}/").text == "ok"
    if "port" in entry:
        with pytest.raises(EgressRefused):
            fetch(egress, f"http://{host}:{other.port}/")
        assert other.connections == 0


def test_a_name_in_a_listed_network_needs_tls(
    fetch: Fetch, names: Names, listen: Callable[..., Listener]
) -> None:
    server = listen()
    names["hooks.test"] = [["127.0.0.1"]]
    with pytest.raises(EgressRefused, match="https://"):
        fetch(Egress(allow=("127.0.0.0/8",)), f"http://hooks.test:{server.port}/")
    assert server.connections == 0


def test_a_trusted_url_opens_its_host_and_port_only(
    fetch: Fetch, listen: Callable[..., Listener]
) -> None:
    server, other = listen(), listen()
    trusted = [f"http://127.0.0.1:{server.port}/keys"]
    assert fetch(Egress(), trusted[0], trusted=trusted).text == "ok"
    with pytest.raises(EgressRefused):
        fetch(Egress(), f"http://127.0.0.1:{other.port}/keys", trusted=trusted)
    assert other.connections == 0


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that the process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


def tls(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def test_a_certificate_is_checked_against_the_name(
    fetch: Fetch, names: Names, listen: Callable[..., Listener], authority: trustme.CA
) -> None:
    names["hooks.test"] = names["other.test"] = [["127.0.0.1"]]
    server = listen(tls=tls(authority, "hooks.test"))
    asked: list[str | None] = []
    assert server.tls
    server.tls.sni_callback = lambda _, name, __: asked.append(name)
    egress = Egress(allow=("127.0.0.0/8",))
    assert fetch(egress, f"https://hooks.test:{server.port}/").text == "ok"
    assert asked == ["hooks.test"] and b"hooks.test" in server.requests[0]
    with pytest.raises(httpx.ConnectError, match="ertificate"):
        fetch(egress, f"https://other.test:{server.port}/")
    assert len(server.requests) == 1


def test_an_unknown_authority_is_refused(fetch: Fetch, listen: Callable[..., Listener]) -> None:
    server = listen(tls=tls(trustme.CA(), "127.0.0.1"))
    with pytest.raises(httpx.ConnectError, match="ertificate"):
        fetch(Egress(allow=("127.0.0.1",)), f"https://127.0.0.1:{server.port}/")
    assert server.requests == []


def test_the_next_address_is_tried(
    fetch: Fetch, names: Names, listen: Callable[..., Listener]
) -> None:
    server = listen()
    names["hooks.test"] = [["127.0.0.9", "127.0.0.1"]]
    assert fetch(Egress(allow=("hooks.test",)), f"http://hooks.test:{server.port}/").text == "ok"


def drip(connection: socket.socket) -> None:
    """A response whose bytes come one at a time, for ten seconds."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.1)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        connection.sendall(b"x-%d: y\r\n" % number)
        time.sleep(0.1)


def silence(connection: socket.socket) -> None:
    time.sleep(5)


@pytest.mark.parametrize("answer", [drip, drip_headers, silence])
def test_a_slow_answer_ends_with_the_timeout(
    answer: Callable[[socket.socket], None], fetch: Fetch, listen: Callable[..., Listener]
) -> None:
    server = listen(answer)
    egress = Egress(allow=("127.0.0.1",))
    with pytest.raises(httpx.TimeoutException):
        fetch(egress, f"http://127.0.0.1:{server.port}/", timeout=0.4)


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(65_536))


def compressed(connection: socket.socket) -> None:
    connection.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nxxxx"
    )


@pytest.mark.parametrize(
    ("answer", "said"), [(endless, "over the limit"), (compressed, "compressed")]
)
def test_a_large_answer_is_refused(
    answer: Callable[[socket.socket], None],
    said: str,
    fetch: Fetch,
    listen: Callable[..., Listener],
) -> None:
    server = listen(answer)
    with pytest.raises(EgressRefused, match=said):
        fetch(Egress(allow=("127.0.0.1",)), f"http://127.0.0.1:{server.port}/", max_bytes=100_000)


def test_a_proxy_of_the_operator_is_used_for_unlisted_hosts(
    fetch: Fetch, listen: Callable[..., Listener]
) -> None:
    server, proxy = listen(), listen(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
    egress = Egress(allow=("127.0.0.1",), proxy=f"http://u:p@127.0.0.1:{proxy.port}")
    assert "u:p" not in repr(egress)
    with pytest.raises(httpx.ProxyError):
        fetch(egress, "https://public.test/")
    assert proxy.requests[0].startswith(b"CONNECT public.test:443")
    assert b"proxy-authorization: basic dTpw" in proxy.requests[0].lower().replace(b"dtpw", b"dTpw")
    assert fetch(egress, f"http://127.0.0.1:{server.port}/").text == "ok"
    for host in ("10.0.0.1", "[::1]", "2130706433"):
        with pytest.raises(EgressRefused):
            fetch(egress, f"https://{host}/")
    assert proxy.connections == 1


@pytest.mark.anyio
async def test_a_connection_is_kept_for_the_next_request(listen: Callable[..., Listener]) -> None:
    server = listen(OK)
    async with Egress(allow=("127.0.0.1",)).async_client() as http:
        for _ in range(3):
            assert (await http.get(f"http://127.0.0.1:{server.port}/")).text == "ok"
    assert server.connections == 1


@pytest.mark.parametrize(
    "entry",
    ["", "http://hooks.test", "10.0.0.1/8", "hooks.test:0", "hooks.test:99999", "0x7f.1", "a b"],
)
def test_an_unreadable_entry_of_the_list_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError):
        Egress(allow=(entry,))


def test_no_option_goes_around_the_guard() -> None:
    for option in ("transport", "proxy", "mounts", "verify"):
        with pytest.raises(TypeError, match=option):
            Egress().client(**{option: None})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://hooks.example/x", None),
        ("https://hooks.example:8443/x?y=z", None),
        ("https://8.8.8.8/", None),
        ("http://hooks.example/", "must begin with https://"),
        ("hooks.example", "must begin with https://"),
        ("https://user@hooks.example/", "user name or password"),
        ("https://:secret@hooks.example/", "user name or password"),
        ("https://127.0.0.1/", "must be a public one"),
        ("https://[::1]/", "must be a public one"),
        ("https://2130706433/", "address as usually written"),
        ("https://hooks_.-x/", "address as usually written"),
        ("https://hooks.example:0/", "port"),
        ("https://hooks.example/" + "x" * 2_000, "2,000 characters"),
    ],
)
def test_a_url_is_checked_without_connecting(url: str, said: str | None) -> None:
    if said is None:
        Egress().check_url(url)
    else:
        with pytest.raises(EgressRefused, match=said):
            Egress().check_url(url)
