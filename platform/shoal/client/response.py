"""What a transport returns, and how it becomes a value or an error."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from shoal.contract.errors import ShoalError, Unavailable
from shoal.contract.operations import decode


class Response(NamedTuple):
    """One answer of the platform. The names of `headers` are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def value(self) -> Any:
        """The decoded body.

        Returns:
            Decoded JSON; the bytes of any other content type; None for an empty body.

        Raises:
            ShoalError: The error that a problem document describes.
        """
        try:
            return decode(self.status, self.headers.get("content-type", ""), self.body)
        except ShoalError as error:
            retry_after = self.headers.get("retry-after", "")
            if error.retry_after is None and retry_after.replace(".", "", 1).isdigit():
                error.retry_after = float(retry_after)
            error.request_id = error.request_id or self.headers.get("x-request-id")
            raise


def unreachable(address: str, error: Exception) -> Unavailable:
    """The error for a transport that failed before there was a response."""
    return Unavailable(f"{address} does not answer: {type(error).__name__}: {error}".rstrip(": "))
