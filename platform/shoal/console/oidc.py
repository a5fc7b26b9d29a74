"""Signing in with an identity provider: OpenID Connect's authorization code flow.

With PKCE (RFC 7636), state, nonce and the issuer's identification (RFC 9207).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from time import monotonic
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import orjson
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from shoal.contract.errors import Unauthenticated, Unavailable
from shoal.egress.egress import Egress
from shoal.router.claims import describe_fault, issuer_caller
from shoal.router.credentials import mint_internal
from shoal.router.key_set import KeySet, verify_token
from shoal.runtime.console_settings import SignInSettings

from .session import LIFETIME

log = logging.getLogger("shoal.console")

Metadata = Mapping[str, Any]
AUTH_METHODS = "token_endpoint_auth_methods_supported"
METADATA_SECONDS = 600.0
RETRY_SECONDS = 5.0
"""How long a provider that failed is not asked again."""
TIMEOUT = 10.0
MAX_BYTES = 2**18
MAX_TEXT = 4096
"""The most characters of a parameter that comes back from the provider."""


@dataclass(frozen=True, slots=True, repr=False)
class Attempt:
    """A sign-in that was begun, kept in the browser's cookie until it comes back."""

    state: str
    nonce: str
    verifier: str
    after: str
    """The console page to open after signing in."""


class IdentityProvider:
    """The provider that people sign in with.

    Args:
        settings: The operator's configuration.
        egress: Makes the connections.
        secret: Signs the tokens that the console uses for those who signed in.
    """

    def __init__(self, settings: SignInSettings, egress: Egress, secret: str) -> None:
        self.settings, self._egress, self._secret = settings, egress, secret
        self.redirect_uri = f"{settings.public_url}/console/oidc/callback"
        self._metadata: Metadata | None = None
        self._keys: KeySet | None = None
        self._read_at = self._retry_at = float("-inf")
        self._lock = asyncio.Lock()

    async def begin(self, after: str) -> tuple[str, Attempt]:
        """The address where the person signs in, and what to keep until then.

        Raises:
            Unavailable: The provider cannot be reached.
        """
        metadata = await self._discover()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        address = prepare_grant_uri(
            metadata["authorization_endpoint"],
            self.settings.client_id,
            "code",
            self.redirect_uri,
            " ".join(self.settings.scopes),
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return address, Attempt(state, nonce, verifier, after)

    async def complete(self, attempt: Attempt, answer: Mapping[str, str]) -> tuple[str, int]:
        """Finish a sign-in with the provider's answer.

        Returns:
            A token of the platform for the person, and the seconds that it is valid.

        Raises:
            Unauthenticated: The answer, or the ID token, is not valid.
            Unavailable: The provider cannot be reached.
        """
        metadata = await self._discover()
        self._check_answer(metadata, attempt, answer)
        tokens = await self._fetch_tokens(metadata, attempt, answer["code"])
        claims = await self._verify(tokens, attempt.nonce)
        caller = issuer_caller(claims, self.settings)
        seconds = min(int(claims["exp"] - time.time()), int(LIFETIME.total_seconds()))
        if caller.user is None or seconds <= 0:
            raise Unauthenticated("the identity provider's token names nobody, or has expired")
        token = mint_internal(
            self._secret,
            caller.tenant,
            caller.role,
            caller.user,
            seconds,
            role_given=caller.role_given,
            credential=f"oidc:{self.settings.issuer}",
        )
        return token, seconds

    async def sign_out_address(self) -> str | None:
        """Where the person signs out of the provider as well, if it offers that."""
        try:
            address = (await self._discover()).get("end_session_endpoint")
        except Unavailable:
            return None
        if not isinstance(address, str) or not address.startswith("https://"):
            return None
        parameters = [
            ("client_id", self.settings.client_id),
            ("post_logout_redirect_uri", f"{self.settings.public_url}/console/sign-in"),
        ]
        return str(add_params_to_uri(address, parameters))

    async def close(self) -> None:
        if self._keys is not None:
            await self._keys.close()

    def _check_answer(
        self, metadata: Metadata, attempt: Attempt, answer: Mapping[str, str]
    ) -> None:
        if any(len(value) > MAX_TEXT for value in answer.values()):
            raise Unauthenticated("the identity provider's answer is too long")
        if not compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise Unauthenticated("this is not the answer to the sign-in that this browser began")
        issuer = answer.get("iss")
        if issuer is None and metadata.get("authorization_response_iss_parameter_supported"):
            raise Unauthenticated("the identity provider's answer does not name its issuer")
        if issuer is not None and issuer != self.settings.issuer:
            raise Unauthenticated("the answer is from another identity provider")
        if "error" in answer:
            raise Unauthenticated(f"the identity provider refused: {answer['error'][:100]}")
        if not answer.get("code"):
            raise Unauthenticated("the identity provider's answer has no code")

    async def _fetch_tokens(
        self, metadata: Metadata, attempt: Attempt, code: str
    ) -> dict[str, Any]:
        """Exchange the code for tokens."""
        body = prepare_token_request(
            "authorization_code",
            redirect_uri=self.redirect_uri,
            code=code,
            code_verifier=attempt.verifier,
        )
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        url, headers, body = self._client_auth(metadata).prepare(
            "POST", metadata["token_endpoint"], headers, body
        )
        try:
            async with self._http() as http:
                response = await http.post(url, content=body, headers=headers)
            tokens = orjson.loads(response.content)
        except (httpx.HTTPError, ValueError) as error:
            raise _unavailable() from error
        if response.status_code >= 500:
            raise _unavailable()
        if response.status_code != 200 or not isinstance(tokens, dict):
            raise Unauthenticated("the identity provider does not accept this sign-in: begin again")
        return tokens

    def _client_auth(self, metadata: Metadata) -> ClientAuth:
        client_id, secret = self.settings.client_id, self.settings.client_secret
        if secret is None:
            return ClientAuth(client_id, None, "none")
        methods = metadata.get(AUTH_METHODS, ["client_secret_basic"])
        if "client_secret_basic" in methods:
            text = quote(secret.get_secret_value(), safe="")  # RFC 6749, section 2.3.1
            return ClientAuth(quote(client_id, safe=""), text, "client_secret_basic")
        return ClientAuth(client_id, secret.get_secret_value(), "client_secret_post")

    async def _verify(self, tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of a valid ID token (OpenID Connect Core, section 3.1.3.7)."""
        token = tokens.get("id_token")
        if not isinstance(token, str) or not token.isascii() or len(token) > MAX_BYTES:
            raise Unauthenticated("the identity provider sent no ID token")
        assert self._keys is not None, "it was discovered"
        try:
            claims = await verify_token(token, self._token_issuer, self._keys)
            parameters = {
                "nonce": nonce,
                "client_id": self.settings.client_id,
                "access_token": tokens.get("access_token"),
            }
            header = jwt.get_unverified_header(token)
            CodeIDToken(claims, header, None, parameters).validate(leeway=self.settings.leeway)
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated(describe_fault(error)) from None
        except JoseError as error:
            claim = getattr(error, "claim", None) or "?"
            raise Unauthenticated(f"the token's claim {claim} is missing or wrong") from None
        return claims

    async def _discover(self) -> Metadata:
        """What the provider publishes about itself, read again every ten minutes."""
        async with self._lock:
            if self._metadata is None and monotonic() < self._retry_at:
                raise _unavailable()
            if self._metadata is None or monotonic() - self._read_at > METADATA_SECONDS:
                await self._read_metadata()
        assert self._metadata is not None
        return self._metadata

    async def _read_metadata(self) -> None:
        issuer = self.settings.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            async with self._http() as http:
                response = await http.get(url)
            metadata = check_metadata(orjson.loads(response.raise_for_status().content), issuer)
        except (httpx.HTTPError, ValueError) as error:
            if self._metadata is not None:
                self._read_at = monotonic() - METADATA_SECONDS + 10  # use the old one meanwhile
                return
            self._retry_at = monotonic() + RETRY_SECONDS
            log.warning("the identity provider %s cannot be read: %s", issuer, error)
            raise _unavailable() from error
        if self._metadata is None or self._metadata["jwks_uri"] != metadata["jwks_uri"]:
            await self.close()
            self._token_issuer = self.settings.token_issuer(metadata["jwks_uri"])
            self._keys = KeySet(self._token_issuer, self._egress, lambda: None, [issuer])
        self._metadata, self._read_at = metadata, monotonic()

    def _http(self) -> httpx.AsyncClient:
        trusted = [self.settings.issuer]
        return self._egress.async_client(trusted=trusted, timeout=TIMEOUT, max_bytes=MAX_BYTES)


def check_metadata(document: Any, issuer: str) -> Metadata:
    """What a provider publishes about itself. ValueError if it is not the issuer's."""
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError(f"it does not describe the issuer {issuer}")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not str(document.get(name)).startswith("https://"):
            raise ValueError(f"{name} must begin with https://")
    if not isinstance(document.get(AUTH_METHODS, []), list):
        raise ValueError(f"{AUTH_METHODS} must be a list")
    return document


def _unavailable() -> Unavailable:
    return Unavailable("the identity provider cannot be reached: try again", retry_after=10)
