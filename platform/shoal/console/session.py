"""Sessions: an API key or a token, encrypted in a cookie.

The console stores nothing, and any replica can read the cookie.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta

import orjson
from cryptography.fernet import Fernet, InvalidToken
from fastapi import Request, Response

from shoal.contract.rights import Right

COOKIE = "shoal_session"
LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser: its key, and the tenant, user and role that it acts for."""

    key: str
    """An API key; or, after a sign-in with an identity provider, a token."""
    user: str | None
    tenant: str
    name: str
    """The tenant's name for people."""
    role: str
    rights: Sequence[Right]
    expires: float = field(default_factory=lambda: time.time() + LIFETIME.total_seconds())
    """When it ends, in seconds since 1970."""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    """Of this sign-in: another one with the same key is another session."""

    def may(self, right: Right) -> bool:
        """Whether the key has a right. The platform checks it again."""
        return right in self.rights

    @property
    def is_key(self) -> bool:
        """Whether it is of an API key, which may act for a user that is named."""
        return self.key.startswith("shoal_")

    def __repr__(self) -> str:  # never the key
        return f"Session({self.tenant!r}, {self.role!r}, user={self.user!r})"


class SessionCodec:
    """Encrypts sessions into cookies, and reads them back."""

    def __init__(self, secret: str) -> None:
        self._fernet = fernet(secret, b"shoal.console")

    def encode(self, session: Session) -> str:
        """The cookie's value."""
        return self._fernet.encrypt(orjson.dumps(asdict(session))).decode()

    def decode(self, cookie: str | None) -> Session | None:
        """The session in a cookie; None if it is missing, forged or expired."""
        if not cookie:
            return None
        try:
            text = self._fernet.decrypt(cookie.encode(), ttl=int(LIFETIME.total_seconds()))
            session = Session(**orjson.loads(text))
        except (InvalidToken, TypeError, ValueError):
            return None
        return session if session.expires > time.time() else None


def fernet(secret: str, purpose: bytes) -> Fernet:
    """Encrypts and authenticates cookies (AES-128-CBC with HMAC-SHA256).

    Args:
        secret: The platform's secret, which the key is derived from.
        purpose: At most 16 bytes; a cookie of one purpose is not one of another.
    """
    derived = hashlib.blake2b(secret.encode(), digest_size=32, person=purpose).digest()
    return Fernet(base64.urlsafe_b64encode(derived))


def set_session(
    response: Response, request: Request, sessions: SessionCodec, session: Session
) -> None:
    """Set a session's cookie, until it ends."""
    response.set_cookie(
        COOKIE,
        sessions.encode(session),
        max_age=int(session.expires - time.time()),
        path="/console",
        secure=is_secure(request),
        httponly=True,
        samesite="lax",
    )


def is_secure(request: Request) -> bool:
    """Whether the browser speaks HTTPS, with the console or a proxy before it."""
    return request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
