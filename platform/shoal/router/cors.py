"""Cross-origin requests (CORS): which web pages may call the platform."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shoal.contract.errors import Forbidden

EVERY_TENANT = "*"
Headers = list[tuple[bytes, bytes]]

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS = (
    b"Authorization, Content-Type, Content-Encoding, Shoal-User, Shoal-Session, X-Request-ID"
)
RESPONSE_HEADERS = b"X-Request-ID, Retry-After, Allow, Accept-Encoding"


class CORSSettings(BaseModel):
    """The section `router.cors`. No cookie is ever read, so none is ever allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origins: Mapping[str, frozenset[str]] = {}
    """The origins whose pages may call, by tenant; `*`: with any credential."""
    max_age: int = Field(default=600, ge=0, le=86_400)
    """Seconds that a browser may keep the answer to a preflight request."""

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
        for origin in {origin for found in origins.values() for origin in found}:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
                or not parts.hostname
                or "@" in origin
                or "*" in origin
                or origin != origin.lower()
            ):
                raise ValueError(
                    f"{origin!r} is not an origin: write https://host or https://host:port, "
                    "in lower case and without a path; * is not accepted"
                )
        return origins


class CORS:
    """Decides about a request's origin, and gives the headers for the browser."""

    def __init__(self, settings: CORSSettings) -> None:
        self._tenants = {
            tenant: frozenset(origin.encode() for origin in origins)
            for tenant, origins in settings.origins.items()
        }
        self._any = frozenset[bytes]().union(*self._tenants.values())
        self._max_age = str(settings.max_age).encode()

    @property
    def is_configured(self) -> bool:
        return bool(self._any)

    def headers(self, origin: bytes | None, tenant: str | None = None) -> Headers:
        """The headers of a response.

        Args:
            origin: The request's origin, if it has one.
            tenant: The credential's, once it is known.
        """
        headers = [(b"vary", b"Origin")]
        if origin is not None and origin in self._allowed(tenant):
            headers.append((b"access-control-allow-origin", origin))
            headers.append((b"access-control-expose-headers", RESPONSE_HEADERS))
        return headers

    def preflight(self, origin: bytes | None) -> Headers:
        """The headers that answer a preflight request, which has no credential.

        Raises:
            Forbidden: No tenant allows the origin.
        """
        if origin is None or origin not in self._any:
            raise Forbidden("this origin is not allowed: see router.cors in the configuration")
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", self._max_age),
        ]

    def _allowed(self, tenant: str | None) -> frozenset[bytes]:
        if tenant is None:
            return self._any
        nothing = frozenset[bytes]()
        return self._tenants.get(tenant, nothing) | self._tenants.get(EVERY_TENANT, nothing)
