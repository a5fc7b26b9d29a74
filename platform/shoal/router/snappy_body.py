"""Request bodies in snappy's block format, which Prometheus sends.

A block begins with the length of what it inflates to, so that is known before.

Source: https://github.com/google/snappy/blob/main/format_description.txt
"""

import asyncio

from starlette.types import Message, Receive

from shoal.contract.errors import Malformed, TooLarge

STEP_BYTES = 65_536
LENGTH_BYTES = 5
"""The length takes at most so many bytes."""


class SnappyBody:
    """A request's body, inflated once it has arrived.

    Args:
        receive: Gives the body as it was sent.
        limit: The most bytes that it may have, as sent and inflated.
        too_large: What is raised beyond it.
    """

    def __init__(self, receive: Receive, limit: int, too_large: TooLarge) -> None:
        self._receive, self._limit, self._too_large = receive, limit, too_large
        self._body: bytes | None = None
        self._at = 0
        self._ended = False

    async def receive(self) -> Message:
        """The next piece of the inflated body, of at most `STEP_BYTES`.

        Raises:
            Malformed: The body is not snappy's block format.
            TooLarge: It is over the limit.
        """
        if self._ended:
            return await self._receive()
        if self._body is None:
            data = bytearray()
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                data += message.get("body", b"")
                if len(data) > self._limit:
                    raise self._too_large
                if not message.get("more_body", False):
                    break
            self._body = await self._inflate(bytes(data))
        piece = self._body[self._at : self._at + STEP_BYTES]
        self._at += len(piece)
        self._ended = self._at == len(self._body)
        return {"type": "http.request", "body": piece, "more_body": not self._ended}

    async def _inflate(self, data: bytes) -> bytes:
        import pyarrow

        size = inflated_size(data)
        if size > self._limit:
            raise self._too_large
        codec = pyarrow.Codec("snappy")
        try:
            return bytes(await asyncio.to_thread(codec.decompress, data, size, asbytes=True))
        except (OSError, pyarrow.ArrowException) as error:
            raise Malformed(f"the body is not valid snappy: {error}") from None


def inflated_size(data: bytes) -> int:
    """The length that a block begins with, in bytes.

    Raises:
        Malformed: It does not begin with one.
    """
    size = 0
    for place, byte in enumerate(data[:LENGTH_BYTES]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return size
    raise Malformed("the body is not valid snappy: it does not begin with its length")
