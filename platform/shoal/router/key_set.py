"""An issuer's public keys, fetched from its JWKS address, kept for a limited time."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import httpx
import jwt
import orjson

from shoal.contract.errors import Unauthenticated, Unavailable
from shoal.egress.egress import Egress
from shoal.tenants.tasks import cancel_and_wait

from .claims import check_dates
from .public_keys import PublicKey, parse_jwks
from .settings import JWTIssuer

log = logging.getLogger(__name__)

MAX_BYTES = 2**20
"""The largest JWK set that is read."""
FETCH_SECONDS = 5.0


class KeySet:
    """An issuer's keys, by key id.

    A known key never waits for a fetch. Fetches happen one at a time: when the keys are
    `FRESH` seconds old, in the background, and when a token names an unknown key, at
    most every `INTERVAL` seconds. After a failed fetch the keys are used until they
    are `jwks_max_age` old, and fetching is retried with growing pauses.

    Args:
        issuer: The issuer's settings.
        egress: Makes the connections.
        on_change: Called when the keys have changed.
        trusted: Addresses of the operator's choice; by default that of the keys.
    """

    FRESH, INTERVAL, LONGEST_PAUSE = 600.0, 10.0, 60.0

    def __init__(
        self,
        issuer: JWTIssuer,
        egress: Egress,
        on_change: Callable[[], None],
        trusted: Sequence[str] | None = None,
    ) -> None:
        self._trusted = [str(issuer.jwks_url)] if trusted is None else trusted
        self._issuer, self._egress, self._on_change = issuer, egress, on_change
        self._keys = issuer.public_keys()
        self._fetched_at = self._next_fetch = float("-inf")
        self._failures = 0
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, kid: str | None, algorithm: str) -> Any:
        """The key with an id, for an algorithm; without an id, the only key.

        Raises:
            Unauthenticated: There is no such key.
            Unavailable: The keys cannot be fetched.
        """
        self._drop_old_keys()
        key = self._find(kid, algorithm)
        if self._issuer.jwks_url is not None:
            if key is not None and monotonic() - self._fetched_at > self.FRESH:
                self._fetch()
            elif key is None and (fetching := self._fetch()) is not None:
                await asyncio.shield(fetching)
                key = self._find(kid, algorithm)
        if key is not None:
            return key
        if self._failures:
            raise Unavailable(
                "the keys of the token's issuer cannot be fetched",
                retry_after=max(1.0, self._next_fetch - monotonic()),
            )
        raise Unauthenticated("the token's key is not among those that its issuer publishes")

    async def close(self) -> None:
        await cancel_and_wait(self._fetching)

    def _drop_old_keys(self) -> None:
        fetched = self._issuer.jwks_url is not None and bool(self._keys)
        if fetched and monotonic() - self._fetched_at > self._issuer.jwks_max_age:
            self._put({})

    def _find(self, kid: str | None, algorithm: str) -> Any:
        if kid is None:
            keys = [key for keys in self._keys.values() for key in keys]
            if len(keys) != 1:
                return None
        else:
            keys = self._keys.get(kid, [])
        return next((key.key for key in keys if algorithm in key.algorithms), None)

    def _fetch(self) -> "asyncio.Task[None] | None":
        """The fetch that is under way, begun now unless it is too soon for another."""
        if self._fetching is None or self._fetching.done():
            if monotonic() < self._next_fetch:
                return None
            self._fetching = asyncio.create_task(self._refresh(), name="shoal-jwks")
        return self._fetching

    async def _refresh(self) -> None:
        try:
            document = await fetch_document(self._egress, str(self._issuer.jwks_url), self._trusted)
            keys = parse_jwks(document, self._issuer.algorithms)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            self._failures += 1
            pause = min(2.0 ** (self._failures - 1), self.LONGEST_PAUSE)
            self._next_fetch = monotonic() + pause
            self._log_failure(error)
            return
        self._failures = 0
        self._fetched_at = monotonic()
        self._next_fetch = self._fetched_at + self.INTERVAL
        if not keys:
            log.warning("the JWK set of %s has no key that can be used", self._issuer.issuer)
        self._put(keys)

    def _put(self, keys: dict[str | None, list[PublicKey]]) -> None:
        changed, self._keys = keys != self._keys, keys
        if changed:
            self._on_change()

    def _log_failure(self, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        left = self._fetched_at + self._issuer.jwks_max_age - monotonic()
        log.warning(
            "the keys of %s cannot be fetched from %s: %s. %s",
            self._issuer.issuer,
            self._issuer.jwks_url,
            cause,
            f"Those known are used for another {left:.0f} s"
            if left > 0
            else "Its tokens are refused with 503",
        )


async def verify_token(token: str, issuer: JWTIssuer, keys: KeySet) -> dict[str, Any]:
    """The claims of an issuer's token, whose signature and times are valid.

    Raises:
        jwt.PyJWTError, Unauthenticated: The token is not valid.
        Unavailable: The issuer's keys cannot be fetched.
    """
    unverified = jwt.decode_complete(token, options={"verify_signature": False})
    check_dates(unverified["payload"])
    header = unverified["header"]
    algorithm = header.get("alg")
    if algorithm not in issuer.algorithms:
        raise Unauthenticated("the token's algorithm is not one allowed for its issuer")
    claims: dict[str, Any] = jwt.decode(
        token,
        await keys.get(header.get("kid"), algorithm),
        algorithms=[algorithm],
        issuer=issuer.issuer,
        audience=issuer.audience,
        leeway=issuer.leeway,
        options={"require": ["exp", "iss", "aud"]},
    )
    return claims


async def fetch_document(egress: Egress, url: str, trusted: Sequence[str]) -> Any:
    """A small JSON document, from a public address or one of the operator's.

    Raises:
        httpx.HTTPError: It cannot be fetched within the bounds.
        ValueError: It is not JSON, or the status is not 200.
    """
    headers = {"accept": "application/json"}
    bounds: dict[str, Any] = {"timeout": FETCH_SECONDS, "max_bytes": MAX_BYTES}
    async with egress.async_client(trusted=trusted, headers=headers, **bounds) as http:
        response = await http.get(url)
        if response.status_code != 200:
            raise ValueError(f"it answered with status {response.status_code}")
        return orjson.loads(response.content)
