"""Sessions: an API key, encrypted in a cookie.

The console stores nothing, and any replica can read the cookie.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

import orjson
from cryptography.fernet import Fernet, InvalidToken

from shoal.contract.rights import Right

COOKIE = "shoal_session"
LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser: its key, and the tenant, user and role that it acts for."""

    key: str
    user: str | None
    tenant: str
    name: str
    """The tenant's name for people."""
    role: str
    rights: Sequence[Right]

    def may(self, right: Right) -> bool:
        """Whether the key had a right at sign-in. The platform checks it again."""
        return right in self.rights

    def __repr__(self) -> str:  # never the key
        return f"Session({self.tenant!r}, {self.role!r}, user={self.user!r})"


class SessionCodec:
    """Encrypts sessions into cookies, and reads them back.

    They are encrypted and authenticated by Fernet (AES-128-CBC with HMAC-SHA256), with
    a key derived from the platform's secret.
    """

    def __init__(self, secret: str) -> None:
        derived = hashlib.blake2b(secret.encode(), digest_size=32, person=b"shoal.console").digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def encode(self, session: Session) -> str:
        """The cookie's value."""
        return self._fernet.encrypt(orjson.dumps(asdict(session))).decode()

    def decode(self, cookie: str | None) -> Session | None:
        """The session in a cookie; None if it is missing, forged or expired."""
        if not cookie:
            return None
        try:
            text = self._fernet.decrypt(cookie.encode(), ttl=int(LIFETIME.total_seconds()))
            return Session(**orjson.loads(text))
        except (InvalidToken, TypeError, ValueError):
            return None
