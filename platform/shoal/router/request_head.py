"""What the router reads of a request's headers, path and query."""

import re
from random import getrandbits
from urllib.parse import parse_qsl, unquote

from starlette.types import Scope

from shoal.contract.errors import Forbidden, Malformed, ShoalError, Unauthenticated
from shoal.contract.names import check_text

MISSING_CREDENTIAL = "missing credential: send Authorization: Bearer with an API key or a JWT"
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestHead:
    """A request's headers, read in one pass."""

    __slots__ = (
        "_authorization",
        "_bytes",
        "_repeated",
        "content_encoding",
        "content_length",
        "has_body",
        "is_preflight",
        "origin",
        "request_id",
        "session",
        "user",
    )

    def __init__(self, scope: Scope) -> None:
        self._authorization: bytes | None = None
        self._bytes = 0
        self._repeated: bytes | None = None
        self.user: bytes | None = None
        self.session: bytes | None = None
        self.content_encoding: bytes | None = None
        self.content_length = 0
        self.has_body = self.is_preflight = False
        self.origin: bytes | None = None
        request_id: bytes | None = None
        for name, value in scope["headers"]:
            self._bytes += len(name) + len(value) + 4
            if name == b"authorization":
                if self._authorization is not None:
                    self._repeated = name
                self._authorization = value
            elif name == b"shoal-user":
                if self.user is not None:
                    self._repeated = name
                self.user = value
            elif name == b"shoal-session":
                self.session = value
            elif name == b"x-request-id":
                request_id = value if request_id is None else b""
            elif name == b"content-length":
                self.has_body = True
                self.content_length = int(value) if value.isdigit() and len(value) < 19 else -1
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name == b"content-encoding":
                if self.content_encoding is not None:
                    self._repeated = name
                self.content_encoding = None if value == b"identity" else value
            elif name == b"origin":
                self.origin = value
            elif name == b"access-control-request-method":
                self.is_preflight = scope["method"] == "OPTIONS"
        if request_id is not None and REQUEST_ID.fullmatch(request_id):
            self.request_id = request_id.decode()
        else:
            self.request_id = f"{getrandbits(128):032x}"

    def check(self, scope: Scope, header_bytes: int) -> None:
        """Check the headers, the path and the query.

        Raises:
            HeadersTooLarge: The headers are larger than `header_bytes`.
            TargetTooLong: The path and query are.
            Malformed: A header is repeated or invalid, or the path or query contains
                characters that are not allowed.
        """
        if self._bytes > header_bytes:
            raise HeadersTooLarge(f"the headers are over the limit of {header_bytes} bytes")
        target = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if target > header_bytes:
            raise TargetTooLong(f"path and query are over the limit of {header_bytes} bytes")
        if self._repeated is not None:
            raise Malformed.at(f"header.{self._repeated.decode()}", "it must not be repeated")
        if self.content_length < 0:
            raise Malformed.at("header.content-length", "it is not a number")
        path: str = scope["path"]
        if not path.isprintable() and any(ord(c) < 32 or ord(c) == 127 for c in path):
            raise Malformed.at("path", "it contains a control character")
        query: bytes = scope["query_string"]
        if b"%00" in query or b"\0" in query:
            raise Malformed.at("query", "it contains a NUL character")
        if not query.isascii():
            try:
                query.decode()
            except UnicodeDecodeError:
                raise Malformed.at("query", "it is neither percent-encoded nor UTF-8") from None

    def token(self) -> bytes:
        """The bearer token, which InfluxDB's clients call `Token`.

        Raises:
            Unauthenticated: There is none.
        """
        value = self._authorization
        if value is None:
            raise Unauthenticated(MISSING_CREDENTIAL)
        scheme, _, token = value.partition(b" ")
        if scheme.lower() not in (b"bearer", b"token"):
            raise Unauthenticated("the credential must be a bearer token")
        return token.strip()


def routing_path(scope: Scope) -> str:
    """The decoded path, except that `%2F` and `%25` stay encoded.

    So each `/` separates two segments, also where an id has one. `decode_segment`
    decodes what a route found in a segment.

    Raises:
        Malformed: The path is not UTF-8.
    """
    raw: bytes = scope.get("raw_path") or b""
    if b"%" not in raw:
        path: str = scope["path"]
        return path
    kept = raw.decode("latin-1").replace("%25", "%2525")
    try:
        return unquote(kept.replace("%2F", "%252F").replace("%2f", "%252F"), errors="strict")
    except UnicodeDecodeError:
        raise Malformed.at("path", "it is not percent-encoded UTF-8") from None


def decode_segment(segment: str) -> str:
    """The text of a segment of `routing_path`."""
    return segment.replace("%2F", "/").replace("%25", "%")


class HeadersTooLarge(ShoalError):
    status, title = 431, "Request header fields too large"


class TargetTooLong(ShoalError):
    status, title = 414, "Path and query too long"


def check_query_tenant(query: bytes, tenant: str) -> None:
    """Check that a `tenant` in the query is the credential's.

    The query is decoded as the application will decode it.

    Raises:
        Forbidden: It is another tenant.
        Malformed: There are too many parameters.
    """
    if not query or (b"tenant" not in query and b"%" not in query):
        return
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise Malformed.at("query", "it has too many parameters") from None
    for name, value in pairs:
        if name == "tenant" and value != tenant:
            raise Forbidden("this key belongs to another tenant than the query names")


def header_text(value: bytes, header: str) -> str:
    """A header's value as text. Raises Malformed if it is invalid."""
    try:
        return check_text(value.decode())
    except ValueError:
        raise Malformed.at(
            f"header.{header.lower()}",
            "it must be 1 to 512 characters of UTF-8, without control characters",
        ) from None
