"""Servers of the vectors store."""

import os
from collections.abc import Iterator

import pytest

from shoal.stores.configuration import StoreConfig
from shoal.testing.servers import RedisServer

from ...milvus_servers import MilvusServer, missing


def _serve(package: str, factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    if reason := missing(package):
        pytest.skip(reason)
    server = MilvusServer(factory.mktemp(package), package)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def milvus_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.stop()


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """Milvus 2.3. A machine runs only one: its etcd takes port 2380."""
    yield from _serve("milvus", tmp_path_factory)


@pytest.fixture(scope="session")
def milvus_lite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    yield from _serve("milvus_lite", tmp_path_factory)


@pytest.fixture(scope="session")
def milvus(milvus_redis: RedisServer, request: pytest.FixtureRequest) -> StoreConfig:
    """Milvus 2.3, or that at SHOAL_TEST_MILVUS, which is left running."""
    uri = os.environ.get("SHOAL_TEST_MILVUS") or request.getfixturevalue("milvus_server").uri
    return StoreConfig(online=milvus_redis.url, vectors=uri, lake="/proc/none")


@pytest.fixture(scope="session")
def milvus_lite(milvus_redis: RedisServer, milvus_lite_server: MilvusServer) -> StoreConfig:
    """milvus-lite as a server."""
    return StoreConfig(online=milvus_redis.url, vectors=milvus_lite_server.uri, lake="/proc/none")
