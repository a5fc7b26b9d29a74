"""The head of a request: what the router reads of its headers, path and query."""

import re
from random import getrandbits
from urllib.parse import parse_qsl

from starlette.types import Scope

from shoal.contract.errors import Forbidden, Malformed, ShoalError, Unauthenticated
from shoal.contract.names import check_text

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestHead:
    """What the router reads of a request's headers, in one pass."""

    __slots__ = (
        "_authorization",
        "_bytes",
        "_repeated",
        "content_length",
        "has_body",
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
        self.content_length = 0
        self.has_body = False
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
                request_id = value
            elif name == b"content-length":
                self.has_body = True
                self.content_length = int(value) if value.isdigit() and len(value) < 19 else -1
            elif name == b"transfer-encoding":
                self.has_body = True
        if request_id is not None and REQUEST_ID.fullmatch(request_id):
            self.request_id = request_id.decode()
        else:
            self.request_id = f"{getrandbits(128):032x}"

    def check(self, scope: Scope, header_bytes: int) -> None:
        if self._bytes > header_bytes:
            raise HeadersTooLarge(f"the headers are over the limit of {header_bytes} bytes")
        if self._repeated is not None:
            raise Malformed(f"the header {self._repeated.decode()} is repeated")
        if self.content_length < 0:
            raise Malformed("the content length is not a number")
        path: str = scope["path"]
        if not path.isprintable() and any(ord(c) < 32 or ord(c) == 127 for c in path):
            raise Malformed("the path has a control character in it")
        query: bytes = scope["query_string"]
        if b"%00" in query or b"\0" in query:
            raise Malformed("the query has a NUL character in it")
        if not query.isascii():
            try:
                query.decode()
            except UnicodeDecodeError:
                raise Malformed("the query is neither percent-encoded nor UTF-8") from None

    def token(self) -> bytes:
        value = self._authorization
        if value is None:
            raise Unauthenticated(
                "a credential is needed: Authorization: Bearer, with an API key or a JWT"
            )
        if value[:7].lower() != b"bearer ":
            raise Unauthenticated("the credential must be a bearer token: Authorization: Bearer")
        return value[7:].strip()


class HeadersTooLarge(ShoalError):
    status, title = 431, "Request header fields too large"


def check_tenant(query: bytes, tenant: str) -> None:
    """A `tenant` in the query may only repeat the credential's. It is read as the
    application will read it.
    """
    if not query or (b"tenant" not in query and b"%" not in query):
        return
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise Malformed("the query has too many parameters") from None
    for name, value in pairs:
        if name == "tenant" and value != tenant:
            raise Forbidden("the credential is not of the tenant that the query names")


def header_text(value: bytes, header: str) -> str:
    try:
        return check_text(value.decode())
    except ValueError:
        raise Malformed(
            f"the header {header} must be 1 to 512 characters of UTF-8, none of them a control character"
        ) from None
