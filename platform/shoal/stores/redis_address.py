"""The address of a Redis, as a URI says it.

    redis://:password@host:6379/0                     one server
    unix://:password@/path?db=0                       one server, by its socket
    redis+cluster://:password@host:6379,host:6379     a Redis Cluster, by some nodes
    redis+sentinel://:password@host,host/0?service=x  the master that Sentinels call x

With `rediss` in place of `redis` all connections use TLS. Options follow as parameters:
see `OPTIONS`. Valkey speaks the same protocol.
"""

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from redis.connection import parse_url

from shoal.contract.errors import Unavailable

SCHEMES = tuple(
    f"{scheme}://"
    for scheme in (
        *("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"),
        *("redis+sentinel", "rediss+sentinel"),
    )
)
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
OPTIONS = frozenset({"db", "client_name", *FILES, "ssl_check_hostname", "ssl_cert_reqs"})
"""What may follow as parameters: the database, a name for `CLIENT LIST`, and with TLS a
file of trusted certificates, a client's certificate and key, and whether the server's
name and certificate are checked.
"""
OF_SENTINEL = frozenset({"service", "sentinel_username", "sentinel_password"})
PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}
MAX_HOSTS = 100

_parse_url: Any = parse_url  # it has no types

Kind = Literal["single", "cluster", "sentinel"]


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis is.

    Attributes:
        kind: What answers there.
        hosts: One server, some nodes of a cluster, or the Sentinels.
        options: What redis-py's connections take.
        service: The name of the master, with Sentinels.
        sentinel_options: What the connections to Sentinels take.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    options: dict[str, Any] = field(repr=False)
    service: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse_address(uri: str) -> RedisAddress:
    """Read a URI.

    Raises:
        ValueError: What is wrong with it; without the password.
    """
    if not uri.startswith(SCHEMES):
        raise ValueError(f"expected a URI that begins with one of {', '.join(SCHEMES)}")
    scheme, _, rest = uri.partition("://")
    plain, _, suffix = scheme.partition("+")
    kind: Kind = "cluster" if suffix == "cluster" else "sentinel" if suffix else "single"
    hosts = () if plain == "unix" else _hosts(rest, kind)
    given = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    known = OPTIONS | (OF_SENTINEL if kind == "sentinel" else frozenset())
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"unknown parameter {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if kind == "sentinel" and not given.get("service"):
        raise ValueError("name the Sentinels' master: ?service=mymaster")
    options = _options(plain, rest, known)
    if plain != "rediss" and any(name.startswith("ssl_") for name in options):
        raise ValueError("parameters of TLS need rediss in place of redis")
    own = {name: options.pop(name) for name in OF_SENTINEL & options.keys()}
    of_sentinel = {
        **{name: value for name, value in options.items() if name.startswith("ssl")},
        "username": own.get("sentinel_username"),
        "password": own.get("sentinel_password"),
    }
    return RedisAddress(kind, hosts, options, own.get("service", ""), of_sentinel)


def _hosts(rest: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    names = urlsplit(f"//{rest}").netloc.rpartition("@")[2].split(",")
    if kind == "single" and len(names) > 1:
        raise ValueError("several hosts need redis+cluster:// or redis+sentinel://")
    if len(names) > MAX_HOSTS:
        raise ValueError(f"more than {MAX_HOSTS} hosts")
    found = []
    for name in names:
        try:
            host = urlsplit(f"//{name}")
            found.append((host.hostname or "localhost", host.port or PORTS[kind]))
        except ValueError:
            raise ValueError(f"{name!r} is not a host with a port") from None
    return tuple(found)


def _options(plain: str, rest: str, known: frozenset[str]) -> dict[str, Any]:
    """The options in a URI, as redis-py's connections take them."""
    credentials, at, hosts = rest.rpartition("@")
    first = hosts if plain == "unix" else _first_host(hosts)
    try:
        options: dict[str, Any] = _parse_url(f"{plain}://{credentials}{at}{first}")
    except ValueError as error:
        raise ValueError(str(error).partition(" in connection URL")[0]) from None
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if options.keys() - known - {"username", "password", "path"}:
        raise ValueError("this is not the URI of a Redis")
    return options | ({"ssl": True} if plain == "rediss" else {})


def _first_host(hosts: str) -> str:
    """The rest of a URI with the first of its hosts alone."""
    first, comma, others = hosts.partition(",")
    end = min((at for mark in "/?" if (at := others.find(mark)) >= 0), default=len(others))
    return first + others[end:] if comma else hosts


def check_files(address: RedisAddress) -> None:
    """Read the files that an address names, as the connections will.

    Raises:
        Unavailable: Which one cannot be used, and why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    options = address.options
    for name in FILES:
        try:
            if path := options.get(name):
                with open(path, "rb"):
                    pass
            if path and name == "ssl_ca_certs":
                context.load_verify_locations(path)
            if path and name == "ssl_keyfile":
                context.load_cert_chain(options.get("ssl_certfile", ""), path)
        except OSError as error:  # ssl.SSLError is one
            raise Unavailable(
                f"Redis cannot be connected: {name}, the file {path}, cannot be used on this"
                f" host: {error.strerror or error}",
                retry_after=5,
            ) from None
