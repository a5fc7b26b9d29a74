"""Supervision of a request's body and of the response to it."""

import asyncio
import logging

from starlette.types import Message, Receive, Send

from shoal.contract.errors import ShoalError
from shoal.contract.usage import Usage

from .problems import respond

log = logging.getLogger(__name__)


class ResponseGuard:
    """Limits the size of a request's body, and observes the response.

    If the body exceeds the limit, the application gets a disconnect message, and its
    response is not sent. The request's id is added to the response's headers. The start
    of the response ends the deadline, and its status is recorded for the metrics. The
    request is counted in `usage` before that is sent, unless it failed (500 and above)
    or was over a limit (429).
    """

    __slots__ = (
        "_receive",
        "_remaining",
        "_send",
        "body_exceeded",
        "deadline",
        "request_id",
        "started",
        "status",
        "usage",
    )

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive, self._send, self.request_id = receive, send, request_id
        self._remaining = 0
        self.body_exceeded = self.started = False
        self.status = 499  # if the client disconnects before the response
        self.deadline: asyncio.Timeout | None = None
        self.usage: Usage | None = None

    def limit_body(self, size: int) -> Receive:
        """A `receive` that passes on at most `size` bytes of the body."""
        self._remaining = size
        return self.receive

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._remaining -= len(message.get("body", b""))
            if self._remaining < 0:
                self.body_exceeded = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.body_exceeded:
                return
            if self.deadline is not None:
                self.deadline.reschedule(None)
            self.started = True
            self.status = message["status"]
            if self.usage is not None and self.status < 500 and self.status != 429:
                self.usage.add("requests")
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
            ]
        elif self.body_exceeded and not self.started:
            return
        await self._send(message)

    async def problem(self, error: ShoalError) -> None:
        """Respond with an error, unless the response has already started."""
        if self.started:
            log.error(
                "request %s failed after its response had started: %s", self.request_id, error
            )
            return
        self.body_exceeded = False
        self.deadline = None
        status, headers, body = respond(error, self.request_id)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
