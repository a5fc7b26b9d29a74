"""Errors of Milvus as errors of Shoal."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
from pymilvus.exceptions import DataNotMatchException, MilvusException, ParamError

from shoal.contract.errors import InternalError, Invalid, NotFound, ShoalError, Unavailable

# It logs what it raises, with three stack traces.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

NO_COLLECTION, NOT_LOADED = (4, 100), (101, 103)
INVALID, UNAVAILABLE = (6, 1100, 1101), (2, 3, 5, 7, 8, 9, 503)
"""Error codes of Milvus and milvus-lite."""
STARTING = ("connect", "channel not available", "not ready", "not healthy", "no available")
"""What Milvus says while it starts, is overloaded, or has lost one of its parts."""


@asynccontextmanager
async def translate_errors(name: str, seconds: float) -> AsyncIterator[None]:
    """Raise errors of Milvus as errors of Shoal.

    Args:
        name: The collection, for messages.
        seconds: How long this may take.
    """
    try:
        # A timeout given to pymilvus makes it retry until that has passed.
        async with asyncio.timeout(seconds):
            yield
    except ShoalError:
        raise
    except (grpc.RpcError, ConnectionError, TimeoutError) as error:
        raise Unavailable("Milvus is unavailable", retry_after=1) from error
    except MilvusException as error:
        raise _translated(error, name) from error


def _translated(error: MilvusException, name: str) -> ShoalError:
    text = str(error.message)
    if isinstance(error, ParamError | DataNotMatchException):
        return InternalError(f"Milvus: {text[:300]}")
    if isinstance(error.__cause__, grpc.RpcError) or error.code in UNAVAILABLE:
        return Unavailable("Milvus is unavailable", retry_after=1)
    if any(word in text.lower() for word in STARTING):
        return Unavailable("Milvus is unavailable", retry_after=1)
    if error.code in NO_COLLECTION:
        return NotFound(f"no collection {name}")
    if error.code in INVALID:
        return Invalid(f"Milvus refused the request: {text[:300]}")
    return InternalError(f"Milvus: {text[:300]}")


@contextmanager
def ignore_error(word: str) -> Iterator[None]:
    """Ignore an error of Milvus whose message contains the word."""
    try:
        yield
    except MilvusException as error:
        if word not in str(error.message):
            raise
