"""Request bodies that are compressed: `Content-Encoding: gzip` or `zstd`."""

import asyncio
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

from starlette.types import Message, Receive

from shoal.contract.errors import Malformed

from .problems import UnsupportedEncoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES = 65_536
"""At most so much is inflated before others get a turn of the event loop."""
MAX_FRAMES = 1000
"""Gzip members or zstd frames of one body."""
WINDOW_LOG = 23
"""A zstd frame's window is at most 8 MiB, which RFC 8878 asks receivers to take."""


class Decoder(Protocol):
    """A decompressor of one member or frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def zstd_decoder() -> Decoder:
    options = {int(zstd.DecompressionParameter.window_log_max): WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)


class GzipDecoder:
    """`zlib`'s decompressor, keeping what it has not read, as `zstd`'s does."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


DECODERS: dict[bytes, Callable[[], Decoder]] = {
    b"gzip": GzipDecoder,
    b"x-gzip": GzipDecoder,
    b"zstd": zstd_decoder,
}


class InflatedBody:
    """A request's body, inflated step by step as the application reads it.

    Args:
        receive: Gives the body as it was sent.
        encoding: The value of Content-Encoding.

    Raises:
        UnsupportedEncoding: The encoding is not gzip or zstd.
    """

    def __init__(self, receive: Receive, encoding: bytes) -> None:
        name = encoding.strip().lower()
        if name not in DECODERS:
            raise UnsupportedEncoding
        self._receive, self._new_decoder = receive, DECODERS[name]
        self._name = name.decode()
        self._decoder = self._new_decoder()
        self._frames = 1
        self._data, self._at = b"", 0
        self._is_last = self._is_complete = False
        self._pending = False  # whether the decoder may have output without more input

    async def receive(self) -> Message:
        """The next piece of the inflated body, of at most `STEP_BYTES`.

        Raises:
            Malformed: The body is not what Content-Encoding says.
        """
        while not self._is_complete:
            if self._pending or self._at < len(self._data):
                if piece := self._inflate():
                    await asyncio.sleep(0)
                    return {"type": "http.request", "body": piece, "more_body": True}
            elif self._is_last:
                if not self._decoder.eof:
                    raise Malformed(f"the body ends within its {self._name} encoding")
                self._is_complete = True
                return {"type": "http.request", "body": b"", "more_body": False}
            else:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._data, self._at = message.get("body", b""), 0
                self._is_last = not message.get("more_body", False)
        return await self._receive()

    def _inflate(self) -> bytes:
        if self._decoder.eof:
            self._frames += 1
            if self._frames > MAX_FRAMES:
                raise Malformed(f"the body has more than {MAX_FRAMES} {self._name} frames")
            self._decoder = self._new_decoder()
        data = b"" if self._pending else self._data[self._at : self._at + STEP_BYTES]
        self._at += len(data)
        try:
            piece = self._decoder.decompress(data, STEP_BYTES)
        except (zlib.error, zstd.ZstdError) as error:
            raise Malformed(f"the body is not valid {self._name}: {error}") from None
        self._pending = len(piece) == STEP_BYTES and not self._decoder.eof
        if self._decoder.eof:
            self._at -= len(self._decoder.unused_data)
        return piece
