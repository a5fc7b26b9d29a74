"""Clients of Milvus by URI, shared by everything that runs in one event loop.

The URI's query parameters are pymilvus's: `https://host:19530?db_name=shoal
&ca_pem_path=/etc/ca.pem&server_name=milvus`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import grpc
from pymilvus import AsyncMilvusClient
from pymilvus.client.ts_utils import get_collection_ts
from pymilvus.exceptions import MilvusException

from shoal.contract.errors import Invalid

from .configuration import StoreConfig
from .connections import shared_client
from .milvus_faults import NOT_LOADED, translate_errors

T = TypeVar("T")

OPTIONS = (
    "ca_pem_path",
    "client_key_path",
    "client_pem_path",
    "db_name",
    "server_name",
    "server_pem_path",
)
"""What may follow the `?` of the URI."""
READ_SECONDS, WRITE_SECONDS, CREATE_SECONDS = 30.0, 10.0, 120.0
"""How long one call may take. A write must be over before its lease is."""


def milvus_client(config: StoreConfig) -> Any:
    """The running event loop's client."""
    uri, options = split_uri(config.vectors)
    return shared_client(
        (config.vectors, config.token),
        lambda: AsyncMilvusClient(uri=uri, token=config.token, timeout=3.0, **options),
    )


def split_uri(uri: str) -> tuple[str, dict[str, str]]:
    """The URI without its query parameters, and these.

    Raises:
        Invalid: A parameter is unknown.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise Invalid(
            f"the URI of Milvus has the unknown parameter {unknown[0]}:"
            f" there are {', '.join(OPTIONS)}"
        )
    return urlunsplit(parts._replace(query="")), options


def last_write(config: StoreConfig, collection: str) -> int:
    """The time of this process's last write to a collection, as Milvus counts it.

    0 where the server has no such times (milvus-lite): it reads what was written.
    """
    uri, options = split_uri(config.vectors)
    address = urlsplit(uri).netloc.rpartition("@")[2]
    return int(get_collection_ts(collection, address, options.get("db_name", "")))


async def call_loaded(
    client: Any, collection: str, name: str, call: Callable[[], Awaitable[T]]
) -> T:
    """Make a call, and load the collection first where it is not loaded.

    Args:
        client: Of Milvus.
        collection: In Milvus.
        name: The tenant's name of it, for errors.
        call: What to do.
    """
    async with translate_errors(name, READ_SECONDS):
        try:
            return await call()
        except MilvusException as error:
            if error.code not in NOT_LOADED and "not loaded" not in str(error.message):
                raise
            await client.load_collection(collection, retry_times=1)
            return await call()


@asynccontextmanager
async def ignore_unimplemented() -> AsyncIterator[None]:
    """Ignore that pymilvus cannot wait for an index of a server without timestamps."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
