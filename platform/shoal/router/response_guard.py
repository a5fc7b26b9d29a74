"""Supervision of a request's body and of the response to it."""

import asyncio
import logging

from starlette.types import Message, Receive, Scope, Send

from shoal.contract.errors import ShoalError
from shoal.contract.usage import Usage

from .content_encoding import InflatedBody
from .deadlines import Deadlines
from .problems import respond
from .rate_limiter import body_too_large
from .snappy_body import SnappyBody

log = logging.getLogger(__name__)


class RequestTimeout(ShoalError):
    status, title = 408, "Request timeout"


class ResponseGuard:
    """Limits a request's body in size and time, and observes the response.

    If the body is over a limit or invalid, the application gets a disconnect message,
    and its response is not sent. Headers of the router's own, such as the request's id,
    are added to the response, and a response to HEAD is sent without its body. The
    start of the response ends the deadline, and its status is recorded for the metrics.
    The request is counted in `usage` before that is sent, unless it failed (500 and
    above) or was over a limit (429).
    """

    __slots__ = (
        "_body_ended",
        "_deadlines",
        "_is_head",
        "_limit",
        "_next",
        "_pause",
        "_receive",
        "_remaining",
        "_send",
        "body_error",
        "deadline",
        "headers",
        "request_id",
        "started",
        "status",
        "usage",
        "waits_for_body",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        deadlines: Deadlines,
    ) -> None:
        self._receive, self._send, self.request_id = receive, send, request_id
        self._deadlines = deadlines
        self._is_head = scope["method"] == "HEAD"
        self._limit = self._remaining = 0
        self._pause = 0.0
        self._next: Receive = self._receive_in_time
        self._body_ended = self.waits_for_body = self.started = False
        self.body_error: ShoalError | None = None
        """Why the body was not passed on, if it was not."""
        self.headers: list[tuple[bytes, bytes]] = []
        """Headers to add, besides the request's id."""
        self.status = 499  # if the client disconnects before the response
        self.deadline: asyncio.Timeout | None = None
        self.usage: Usage | None = None

    def limit_body(self, size: int, pause: float, encoding: bytes | None) -> Receive:
        """A `receive` that passes on at most `size` bytes of the body.

        Args:
            size: Bytes, of the inflated body.
            pause: Seconds that the client may be silent within the body.
            encoding: The value of Content-Encoding, if there is one.

        Raises:
            UnsupportedMediaType: The encoding is not one that is taken.
        """
        self._limit = self._remaining = size
        self._pause = pause
        if encoding is not None and encoding.strip().lower() == b"snappy":
            too_large = body_too_large(size)
            self._next = SnappyBody(self._receive_in_time, size, too_large).receive
        elif encoding is not None:
            self._next = InflatedBody(self._receive_in_time, encoding).receive
        return self.receive

    async def receive(self) -> Message:
        if self.body_error is not None:
            return {"type": "http.disconnect"}
        try:
            message = await self._next()
        except ShoalError as error:
            self.body_error = error
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._remaining -= len(message.get("body", b""))
            if self._remaining < 0:
                self.body_error = body_too_large(self._limit)
                return {"type": "http.disconnect"}
        return message

    async def _receive_in_time(self) -> Message:
        if self._body_ended:
            return await self._receive()
        self.waits_for_body = True
        try:
            async with self._deadlines.begin(self._pause) as pause:
                try:
                    message = await self._receive()
                finally:
                    self._deadlines.end(pause)
        except TimeoutError:
            raise RequestTimeout(f"nothing of the body arrived for {self._pause:g} s") from None
        self.waits_for_body = False
        self._body_ended = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.body_error is not None:
                return
            if self.deadline is not None:
                self._deadlines.end(self.deadline)
            self.started = True
            self.status = message["status"]
            if self.usage is not None and self.status < 500 and self.status != 429:
                self.usage.add("requests")
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
                *self.headers,
            ]
        elif self.body_error is not None and not self.started:
            return
        elif self._is_head and message["type"] == "http.response.body":
            if message.get("more_body"):
                return
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def problem(self, error: ShoalError) -> None:
        """Respond with an error, unless the response has already started."""
        if self.started:
            log.error(
                "request %s failed after its response had started: %s", self.request_id, error
            )
            return
        self.deadline = None
        status, headers, body = respond(error, self.request_id)
        if self.body_error is not None:
            self.body_error = None
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await self.respond(status, headers, body)
