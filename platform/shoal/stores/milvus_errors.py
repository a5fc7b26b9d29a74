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

NO_COLLECTION, NOT_LOADED, INVALID, UNAVAILABLE = 100, 101, (6, 1100, 1101), (2, 8, 9)
"""Error codes of Milvus and milvus-lite."""
TIMEOUT = 30.0
"""Seconds for one call of Milvus."""


@asynccontextmanager
async def translate_errors(name: str) -> AsyncIterator[None]:
    """Raise errors of Milvus as errors of Shoal."""
    try:
        # A timeout given to pymilvus makes it retry until that has passed.
        async with asyncio.timeout(TIMEOUT):
            yield
    except ShoalError:
        raise
    except (grpc.RpcError, ConnectionError, TimeoutError) as error:
        raise Unavailable("Milvus is unavailable", retry_after=1) from error
    except MilvusException as error:
        text = str(error.message)
        if (
            isinstance(error.__cause__, grpc.RpcError)
            or error.code in UNAVAILABLE
            or "connect" in text.lower()
        ):
            raise Unavailable("Milvus is unavailable", retry_after=1) from error
        if error.code == NO_COLLECTION:
            raise NotFound(f"no collection {name}") from error
        if (
            error.code in INVALID
            or "mismatch" in text
            or isinstance(error, ParamError | DataNotMatchException)
        ):
            raise Invalid(f"Milvus refused the request: {text[:300]}") from error
        raise InternalError(f"Milvus: {text[:300]}") from error


@contextmanager
def ignore_error(word: str) -> Iterator[None]:
    """Ignore an error of Milvus whose message contains the word."""
    try:
        yield
    except MilvusException as error:
        if word not in str(error.message):
            raise
