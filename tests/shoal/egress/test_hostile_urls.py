"""No URL of an attacker makes the platform connect to its own machine or network."""

import socket
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import httpx
import pytest

from shoal import Egress, EgressRefused

from .conftest import Fetch, Listener, Names

LOOPBACK = [
    # as a browser, a resolver or a C library may write 127.0.0.1
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.0.0x0.1",
    "127.0.0.1.",
    "00000127.0.0.1",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ip6-localhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "①②⑦.⓪.⓪.①",
    "１２７.0.0.1",
    "127。0。0。1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    # names that resolve to it
    "loopback.test",
    "mapped.test",
    "both.test",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[::ffff:169.254.169.254]",
    "metadata.test",
]
USERS = ["", "user:password@", "public.test@", "public.test%40"]
SCHEMES = ["http", "https", "HTTP", "ftp", "file", "gopher", "json", "unix", "ws", ""]
SUFFIXES = [
    "",
    "/",
    "/api/jobs/?entrypoint=x",
    "#@public.test/",
    "\\@public.test/",
    "?@public.test",
]


@pytest.fixture(autouse=True)
def hostile_names(names: Names) -> Names:
    names["loopback.test"] = [["127.0.0.1"]]
    names["mapped.test"] = [["::ffff:127.0.0.1"]]
    names["both.test"] = [["::1", "127.0.0.1"]]
    names["metadata.test"] = [["169.254.169.254"]]
    return names


_attempts: list[Any] = []
sys.addaudithook(
    lambda event, args: _attempts.append(args[1]) if event == "socket.connect" else None
)


@pytest.fixture
def attempts() -> Iterator[list[Any]]:
    """The addresses that this process has tried to connect to."""
    _attempts.clear()
    yield _attempts


def outward(attempts: list[Any], *ports: int) -> list[Any]:
    """Those that are no part of an event loop's own wake-up pair."""
    return [a for a in attempts if isinstance(a, tuple) and (not ports or a[1] in ports)]


@pytest.mark.parametrize("host", LOOPBACK + PRIVATE)
def test_no_url_of_a_host_reaches_a_server(
    host: str, fetch: Fetch, listen: Callable[..., Listener], attempts: list[Any]
) -> None:
    servers = [listen(), listen(host="::1")]
    ports = [server.port for server in servers]
    for port in [str(p) for p in ports] + ["", "0", "99999", f"0{ports[0]}"]:
        for scheme in ("http", "https"):
            for user in USERS:
                url = f"{scheme}://{user}{host}{port and ':'}{port}/"
                with pytest.raises((httpx.TransportError, httpx.InvalidURL)):
                    fetch(Egress(), url)
    assert [server.connections for server in servers] == [0, 0]
    assert outward(attempts) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_scheme_and_no_path_reaches_a_server(
    scheme: str, suffix: str, fetch: Fetch, listen: Callable[..., Listener], attempts: list[Any]
) -> None:
    server = listen()
    separator = "://" if scheme else "//"
    with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
        fetch(Egress(), f"{scheme}{separator}127.0.0.1:{server.port}{suffix}")
    assert server.connections == 0 and outward(attempts) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(
    status: int, fetch: Fetch, listen: Callable[..., Listener]
) -> None:
    inner = listen()
    outer = listen(
        b"HTTP/1.1 %d Moved\r\nlocation: http://127.0.0.1:%d/\r\ncontent-length: 0\r\n\r\n"
        % (status, inner.port)
    )
    egress = Egress(allow=(f"127.0.0.1:{outer.port}", f"127.0.0.1:{inner.port}"))
    answer = fetch(egress, f"http://127.0.0.1:{outer.port}/", follow_redirects=True)
    assert answer.status_code == status and (outer.connections, inner.connections) == (1, 0)


@pytest.mark.parametrize("first", [["198.41.0.4"], ["198.41.0.4", "127.0.0.1"]])
def test_a_name_that_changes_is_not_followed(
    first: list[str],
    fetch: Fetch,
    names: Names,
    listen: Callable[..., Listener],
    attempts: list[Any],
) -> None:
    server = listen()
    names["rebinding.test"] = [first, ["127.0.0.1"]]
    with pytest.raises(httpx.TransportError):
        fetch(Egress(), f"https://rebinding.test:{server.port}/", timeout=0.3)
    assert server.connections == 0 and names.asked["rebinding.test"] == 1
    assert [a[0] for a in outward(attempts)] == ["198.41.0.4"]


def test_a_name_that_becomes_private_is_refused(
    fetch: Fetch, names: Names, listen: Callable[..., Listener], attempts: list[Any]
) -> None:
    server = listen()
    names["rebinding.test"] = [["198.41.0.4"], ["127.0.0.1"]]
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            fetch(Egress(), f"https://rebinding.test:{server.port}/", timeout=0.3)
    assert server.connections == 0
    assert {a[0] for a in outward(attempts)} == {"198.41.0.4"}


def test_a_private_name_looks_like_one_that_does_not_exist(fetch: Fetch, names: Names) -> None:
    names["exists.test"] = [["10.0.0.1"]]
    said = []
    for host in ("exists.test", "missing.invalid"):
        with pytest.raises(EgressRefused) as refusal:
            fetch(Egress(), f"https://{host}/")
        said.append(str(refusal.value).replace(host, "HOST"))
    assert said == ["the host HOST has no public address"] * 2


def test_proxies_of_the_environment_are_not_used(
    fetch: Fetch, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = listen(), listen()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
    egress = Egress(allow=(f"127.0.0.1:{server.port}",))
    assert fetch(egress, f"http://127.0.0.1:{server.port}/").text == "ok"
    with pytest.raises(EgressRefused):
        fetch(egress, f"https://127.0.0.1:{proxy.port}/")
    assert (server.connections, proxy.connections) == (1, 0)


def test_every_form_is_one_that_a_resolver_would_take() -> None:
    """The matrix is worth something: its forms do mean this machine to a resolver."""
    resolved = 0
    for host in LOOPBACK[:14]:
        try:
            address = socket.getaddrinfo(host, 80)[0][4][0]
        except OSError:
            continue
        resolved += ip_address(address).is_loopback or ip_address(address).is_unspecified
    assert resolved >= 10
