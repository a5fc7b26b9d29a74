"""Where the platform may connect to, as the operator decides, and clients for it."""

import logging
from collections.abc import Iterable
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from .policy import Destination, EgressRefused, Policy
from .transport import AsyncTransport, BlockingTransport, Bounds

MAX_URL = 2_000
"""Characters of a tenant's URL."""
HEADERS = {"accept-encoding": "identity", "user-agent": "shoal"}


class Egress(BaseModel):
    """The section `egress` of the configuration, and the platform's only way out.

    A client connects to public addresses with TLS, and to what the operator has named.
    It resolves a host once and connects to that address, follows no redirect, reads no
    proxy from the environment, and bounds the time and size of a response.

        async with ctx.services.egress.async_client(timeout=5) as http:
            await http.post(url_of_a_tenant, json=body)

    A refused connection is `EgressRefused`; all errors are `httpx.HTTPError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    allow: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Hosts, addresses and networks that need not be public, nor use TLS.

    `hooks.internal`, `hooks.internal:8443`, `10.1.2.3`, `10.1.0.0/16`. Without TLS, a
    URL must name the host or address itself.
    """
    proxy: SecretStr | None = None
    """`http(s)://user:password@host:port`: the way to hosts that the operator has not
    named. The proxy then resolves their names, and must refuse private addresses."""

    _allowed: tuple[Destination, ...] = PrivateAttr()

    @field_validator("allow")
    @classmethod
    def _check_allow(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for entry in allow:
            Destination.parse(entry)
        return allow

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None:
            url = httpx.URL(proxy.get_secret_value())
            if url.scheme not in ("http", "https") or not url.host:
                raise ValueError("a proxy is http://host:port or https://host:port")
        return proxy

    def model_post_init(self, _: Any) -> None:
        self._allowed = tuple(map(Destination.parse, self.allow))

    def check_url(self, url: str) -> None:
        """Check a URL that a tenant gives, without connecting.

        Raises:
            EgressRefused: With what is wrong. A name that turns out not to be public is
                refused when it is connected to.
        """
        if len(url) > MAX_URL:
            raise EgressRefused(f"the URL is over the limit of {MAX_URL:,} characters")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        Policy(self._allowed, ()).check(parsed)

    def async_client(
        self,
        *,
        trusted: Iterable[str] = (),
        timeout: float = 10.0,
        max_bytes: int = 1 << 20,
        **options: Any,
    ) -> httpx.AsyncClient:
        """A client that connects only where it may.

        Args:
            trusted: URLs from the operator's configuration, never a tenant's: their
                hosts and ports need not be public, nor use TLS.
            timeout: Seconds that a request may take, with its response.
            max_bytes: The size of a response.
            **options: More arguments of `httpx.AsyncClient`, such as `auth`.
        """
        bounds = self._bounds(trusted, timeout, max_bytes)
        return httpx.AsyncClient(
            transport=AsyncTransport(bounds), **_client_options(timeout, options)
        )

    def client(
        self,
        *,
        trusted: Iterable[str] = (),
        timeout: float = 10.0,
        max_bytes: int = 1 << 20,
        **options: Any,
    ) -> httpx.Client:
        """`async_client`, blocking; a look-up of a name lasts as the system lets it."""
        bounds = self._bounds(trusted, timeout, max_bytes)
        return httpx.Client(
            transport=BlockingTransport(bounds), **_client_options(timeout, options)
        )

    def _bounds(self, trusted: Iterable[str], timeout: float, max_bytes: int) -> Bounds:
        logging.getLogger("httpx").addFilter(_hide_paths)
        proxy = httpx.Proxy(self.proxy.get_secret_value()) if self.proxy else None
        return Bounds(Policy(self._allowed, trusted), timeout, max_bytes, proxy)


def _hide_paths(record: logging.LogRecord) -> bool:
    """Log a URL without its path and query, which may be a secret."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            f"{arg.scheme}://{arg.host}/…" if isinstance(arg, httpx.URL) else arg
            for arg in record.args
        )
    return True


def _client_options(timeout: float, options: dict[str, Any]) -> dict[str, Any]:
    if refused := options.keys() & {"mounts", "proxy", "transport", "verify"}:
        raise TypeError(f"a client of the platform takes no {', '.join(sorted(refused))}")
    headers = {**HEADERS, **options.pop("headers", {})}
    limits = httpx.Timeout(timeout, connect=min(timeout, 5.0))
    return {"trust_env": False, "timeout": limits, "headers": headers, **options}
