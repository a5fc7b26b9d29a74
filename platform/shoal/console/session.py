"""Who is signed in: an API key, sealed into a cookie, so that the console keeps nothing
and any replica can read it.
"""

import base64
import hashlib
from dataclasses import asdict, dataclass
from datetime import timedelta

import orjson
from cryptography.fernet import Fernet, InvalidToken

from shoal.contract.context import Role

COOKIE = "shoal_session"
LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Session:
    """What a signed-in browser may do: what its key may do, for `user` where one is
    given.
    """

    key: str
    user: str | None
    tenant: str
    name: str
    role: Role

    def __repr__(self) -> str:  # never the key
        return f"Session({self.tenant!r}, {self.role!r}, user={self.user!r})"


class Seal:
    """Encrypts and authenticates sessions (Fernet: AES-128-CBC with HMAC-SHA256) under
    a key derived from the platform's secret.
    """

    def __init__(self, secret: str) -> None:
        derived = hashlib.blake2b(secret.encode(), digest_size=32, person=b"shoal.console").digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def close(self, session: Session) -> str:
        """The cookie's value."""
        return self._fernet.encrypt(orjson.dumps(asdict(session))).decode()

    def open(self, cookie: str | None) -> Session | None:
        """The session in a cookie; None when there is none, it is forged, or it is
        older than `LIFETIME`.
        """
        if not cookie:
            return None
        try:
            return Session(
                **orjson.loads(
                    self._fernet.decrypt(cookie.encode(), ttl=int(LIFETIME.total_seconds()))
                )
            )
        except (InvalidToken, TypeError, ValueError):
            return None
