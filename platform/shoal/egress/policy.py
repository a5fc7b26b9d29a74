"""Where one client may connect to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Self

import httpx

from .addresses import Address, Network, is_public

HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?"
)
NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
"""A last label like this makes resolvers read a host as an address: `0x7f.1`."""
PORTS = {"http": 80, "https": 443}


class EgressRefused(httpx.TransportError):
    """A connection that the platform does not make, or a response over its bounds."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An entry of the operator's list: a host or a network, and perhaps one port."""

    host: str | Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host`, `host:port`, an address, `[address]:port`, or a network.

        Raises:
            ValueError: It is none of these.
        """
        try:
            return cls(ip_network(text))
        except ValueError:
            pass
        host, colon, port = text.rpartition(":") if re.search(r":\d+\Z", text) else (text, "", "")
        if colon and not 1 <= int(port) <= 65_535:
            raise ValueError(f"{text!r}: the port must be from 1 to 65535")
        number = int(port) if colon else None
        address = literal_address(host.strip("[]"))
        if address is not None:
            return cls(ip_network(address), number)
        if not is_host_name(host.lower()):
            raise ValueError(
                f"{text!r} is not a host name, an address or a network such as 10.1.0.0/16"
            )
        return cls(host.lower().rstrip("."), number)

    def covers(self, host: str, port: int, address: Address | None) -> bool:
        """Whether it names this host, or the address that the host has resolved to."""
        if self.port not in (None, port):
            return False
        if isinstance(self.host, str):
            return self.host == host
        return address is not None and address in self.host


class Policy:
    """What a client may connect to.

    Args:
        allowed: The operator's list: destinations that need not be public, nor use TLS.
        trusted: URLs that the operator has configured: their hosts and ports as well.
    """

    def __init__(self, allowed: Iterable[Destination], trusted: Iterable[str]) -> None:
        self._allowed = tuple(allowed)
        self._trusted = {_origin(httpx.URL(url)) for url in trusted}

    def check(self, url: httpx.URL) -> None:
        """Check all of a URL that can be checked before its host is resolved.

        Raises:
            EgressRefused: With what is wrong, and what to do.
        """
        scheme, host, port = _origin(url)
        if scheme not in PORTS or not host:
            raise EgressRefused("the URL must begin with https:// and name a host")
        if url.userinfo:
            raise EgressRefused("the URL must not contain a user name or password")
        address = literal_address(host)
        if address is None and not is_host_name(host):
            raise EgressRefused(
                "the URL's host must be a host name, or an address as usually written"
            )
        if not 1 <= port <= 65_535:
            raise EgressRefused("the URL's port must be from 1 to 65535")
        is_listed = self._is_listed(host, port, address)
        if scheme != "https" and not is_listed:
            raise EgressRefused("the URL must begin with https://")
        if address is not None and not is_listed and not is_public(address):
            raise EgressRefused("the URL's host must be a public one")

    def is_permitted(self, host: str, port: int, address: Address) -> bool:
        """Whether a host may be connected to at an address that it resolved to."""
        return is_public(address) or self._is_listed(host, port, address)

    def is_listed(self, url: httpx.URL) -> bool:
        """Whether the operator has named this URL's host."""
        _, host, port = _origin(url)
        return self._is_listed(host, port, literal_address(host))

    def _is_listed(self, host: str, port: int, address: Address | None) -> bool:
        host = host.rstrip(".")
        return any(host == name and port == at for _, name, at in self._trusted) or any(
            entry.covers(host, port, address) for entry in self._allowed
        )


def literal_address(host: str) -> Address | None:
    """The address that a URL's host is; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def is_host_name(host: str) -> bool:
    """Whether it is a name, and not another way to write an address."""
    last = host.rstrip(".").rpartition(".")[2]
    return bool(HOST.fullmatch(host)) and not NUMBER.fullmatch(last)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    """The scheme, the host without a final dot, and the port (0 if unknown)."""
    port = url.port if url.port is not None else PORTS.get(url.scheme, 0)
    return url.scheme, url.raw_host.decode("ascii").lower().rstrip("."), port
