"""The vectors store of one tenant: the backend that the configured URI stands for."""

from types import ModuleType

from shoal.contract.vectors import Vectors

from .configuration import StoreConfig

SERVERS = ("http://", "https://", "tcp://")
"""URIs of Milvus; any other is a folder, for LanceDB."""


def open_vectors(config: StoreConfig, tenant: str) -> Vectors:
    """The vectors of one tenant. ValueError when `tenant` is not a valid id."""
    if config.vectors.startswith(SERVERS):
        from .milvus_vectors import MilvusVectors

        return MilvusVectors(config, tenant)
    from .lance_vectors import LanceVectors

    return LanceVectors(config, tenant)


async def erase(config: StoreConfig, tenant: str) -> int:
    """Drop a tenant's collections; return how many rows they had."""
    count: int = await _backend(config).erase(config, tenant)
    return count


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any collections."""
    found: bool = await _backend(config).has_data(config, tenant)
    return found


def _backend(config: StoreConfig) -> ModuleType:
    """The module of the backend, which is imported once it is used."""
    if config.vectors.startswith(SERVERS):
        from . import milvus_vectors

        return milvus_vectors
    from . import lance_vectors

    return lance_vectors
