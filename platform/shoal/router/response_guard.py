"""One request and its response, as they pass the router."""

import asyncio
import logging

from starlette.types import Message, Receive, Send

from shoal.contract.errors import ShoalError

from .problems import respond

log = logging.getLogger(__name__)


class ResponseGuard:
    """One request's body on its way in, up to a limit, and its response on its way out:
    that gets the request's id, its status is noted, and its beginning lifts the
    deadline.

    Past the body's limit, the application hears that the client has gone, and what it
    then answers is not sent.
    """

    __slots__ = (
        "_left",
        "_receive",
        "_send",
        "deadline",
        "exceeded",
        "request_id",
        "started",
        "status",
    )

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive, self._send, self.request_id = receive, send, request_id
        self._left = 0
        self.exceeded = self.started = False
        self.status = 499  # what an application that never answers leaves: the client has gone
        self.deadline: asyncio.Timeout | None = None

    def limit(self, size: int) -> Receive:
        self._left = size
        return self.receive

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.exceeded = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.exceeded:
                return
            if self.deadline is not None:
                self.deadline.reschedule(None)
            self.started = True
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
            ]
        elif self.exceeded and not self.started:
            return
        await self._send(message)

    async def problem(self, error: ShoalError) -> None:
        """Answer with an error; where an answer has begun already, that can only be
        broken off.
        """
        if self.started:
            log.error("request %s failed after its answer had begun: %s", self.request_id, error)
            return
        self.exceeded = False
        self.deadline = None
        status, headers, body = respond(error, self.request_id)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
