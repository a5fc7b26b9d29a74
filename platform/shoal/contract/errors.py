"""The errors of Shoal, on the server and in the client alike.

    ShoalError
    ├── Malformed         400  the bytes are not what the content type says
    ├── Unauthenticated   401  no credential, or one that does not hold
    ├── Forbidden         403  a credential that may not do this
    ├── NotFound          404  no such thing for this tenant
    ├── Conflict          409  the state changed since, or the name is taken
    ├── TooLarge          413  a body over the limit
    ├── Invalid           422  well-formed, but wrong: `errors` says what and where
    ├── LimitExceeded     429  over the tenant's limit; `retry_after` seconds
    ├── InternalError     500  a defect of ours
    └── Unavailable       503  something we stand on is away; `retry_after` seconds

Raised in a route, an error becomes RFC 9457 `application/problem+json`; met by the
client, the problem becomes the same error again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ShoalError(Exception):
    """The root. `detail` is for people; `errors` locates each fault as `{"location":
    "items.3.text", "message": …}`.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = [dict(e) for e in errors]
        self.retry_after = retry_after
        self.request_id = request_id

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 body of this error, `request_id` included once the router has
        set it.
        """
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.retry_after is not None:
            body["retry_after"] = self.retry_after
        if self.request_id:
            body["request_id"] = self.request_id
        return body

    @staticmethod
    def from_problem(status: int, body: Mapping[str, Any]) -> "ShoalError":
        """The error that `problem()` of a response with this status came from (the
        nearest kind for an unknown status).
        """
        kind = _BY_STATUS.get(status) or (
            Invalid
            if 400 <= status < 500
            else Unavailable
            if status in (502, 504)
            else InternalError
        )
        return kind(
            str(body.get("detail") or body.get("title") or ""),
            errors=body.get("errors") or (),
            retry_after=body.get("retry_after"),
            request_id=body.get("request_id"),
        )


class Malformed(ShoalError):
    status, title = 400, "Malformed request"


class Unauthenticated(ShoalError):
    status, title = 401, "Not authenticated"


class Forbidden(ShoalError):
    status, title = 403, "Forbidden"


class NotFound(ShoalError):
    status, title = 404, "Not found"


class Conflict(ShoalError):
    status, title = 409, "Conflict"


class TooLarge(ShoalError):
    status, title = 413, "Content too large"


class Invalid(ShoalError):
    status, title = 422, "Invalid request"


class LimitExceeded(ShoalError):
    status, title = 429, "Too many requests"


class InternalError(ShoalError):
    pass


class Unavailable(ShoalError):
    status, title = 503, "Unavailable"


_BY_STATUS: dict[int, type[ShoalError]] = {
    k.status: k
    for k in (
        Malformed,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        TooLarge,
        Invalid,
        LimitExceeded,
        InternalError,
        Unavailable,
    )
}
