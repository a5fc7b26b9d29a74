"""The errors of Shoal, raised by the server and by the client.

    ShoalError
    ├── Malformed         400  The body does not match its content type
    ├── Unauthenticated   401  No credential, or an invalid or revoked one
    ├── Forbidden         403  The credential does not permit this
    ├── NotFound          404  The tenant has no such object
    ├── Conflict          409  The state has changed, or the name is taken
    ├── TooLarge          413  The body is over the limit
    ├── UnsupportedMediaType  415  The operation does not take this Content-Type
    ├── Invalid           422  Well-formed but invalid; see `errors`
    ├── LimitExceeded     429  Over the tenant's rate limit; see `retry_after`
    │   └── QuotaExceeded 429  Over the tenant's quota of a day, a month or storage
    ├── InternalError     500  A defect in Shoal or a plugin
    └── Unavailable       503  A required service is unavailable; see `retry_after`

An error raised in a route is sent as RFC 9457 `application/problem+json`, and the
client raises the same error from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


class ShoalError(Exception):
    """The base class of all errors.

    Args:
        detail: A message for people; by default the error's title.
        errors: The faults in the request, each as
            `{"location": "items.3.text", "message": "Field required"}`.
        retry_after: Seconds after which the request may succeed.
        request_id: The id of the request that failed.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    location: ClassVar[str | None] = None
    """Where the fault is, if `errors` does not say."""

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
        self.errors = [dict(fault) for fault in errors]
        if self.location and not self.errors:
            self.errors = [{"location": self.location, "message": self.detail}]
        self.retry_after = retry_after
        self.request_id = request_id

    @classmethod
    def at(cls, location: str, message: str) -> Self:
        """The error of one part of a request: `Invalid.at("query.limit", "…")`."""
        return cls(f"{location}: {message}", errors=[{"location": location, "message": message}])

    def problem(self) -> dict[str, Any]:
        """The body of this error's response, as in RFC 9457."""
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
        """The error that a response describes.

        Args:
            status: The response's status, 400 or above. For one that no error has, the
                nearest error is used.
            body: The decoded problem, as `problem` returns it.
        """
        if status == QuotaExceeded.status and isinstance(body.get("quota"), Mapping):
            return QuotaExceeded(
                str(body.get("detail") or QuotaExceeded.title),
                body["quota"],
                body.get("retry_after"),
                request_id=body.get("request_id"),
            )
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
    status, title, location = 400, "Malformed request", "body"


class Unauthenticated(ShoalError):
    status, title = 401, "Not authenticated"


class Forbidden(ShoalError):
    status, title = 403, "Forbidden"


class NotFound(ShoalError):
    status, title = 404, "Not found"


class Conflict(ShoalError):
    status, title = 409, "Conflict"


class TooLarge(ShoalError):
    status, title, location = 413, "Content too large", "body"


class UnsupportedMediaType(ShoalError):
    status, title = 415, "Unsupported media type"


class Invalid(ShoalError):
    status, title = 422, "Invalid request"


class LimitExceeded(ShoalError):
    status, title = 429, "Too many requests"


class QuotaExceeded(LimitExceeded):
    """A quota is used up.

    Args:
        detail: A message for people.
        quota: What the problem's `quota` says: `meter`, `period` (day, month; None for
            storage), `capability` (`*` for all together), `used`, `limit` and `resets`
            (a time; None for storage).
        retry_after: Seconds until then.
    """

    title = "Quota exceeded"

    def __init__(
        self,
        detail: str,
        quota: Mapping[str, Any],
        retry_after: float | None,
        *,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, request_id=request_id)
        self.quota = dict(quota)

    def problem(self) -> dict[str, Any]:
        return {**super().problem(), "quota": self.quota}


class InternalError(ShoalError):
    pass


class Unavailable(ShoalError):
    status, title = 503, "Unavailable"


_BY_STATUS: dict[int, type[ShoalError]] = {
    kind.status: kind
    for kind in (
        Malformed,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        TooLarge,
        UnsupportedMediaType,
        Invalid,
        LimitExceeded,
        InternalError,
        Unavailable,
    )
}
