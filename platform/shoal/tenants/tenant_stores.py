"""The four stores of one tenant, together, as one capability has them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from shoal.eventlog.event_store import EventStore
from shoal.stores.configuration import StoreConfig
from shoal.stores.online import OnlineStore
from shoal.stores.tenant_store import TenantStore

if TYPE_CHECKING:
    from shoal.contract.vectors import Vectors
    from shoal.stores.lake import LakeStore


class TenantStores(TenantStore):
    """The four stores of one tenant, as one capability has them; they can be pickled.

    They connect on first use, with one pool per process, event loop and URI. Their
    libraries are imported on the first use of `vectors` and `lake`, which takes
    seconds: `import_stores` does it beforehand.
    """

    __slots__ = ("_capability", "events", "online")

    _capability: str
    online: OnlineStore
    events: EventStore

    def __init__(self, config: StoreConfig, tenant: str, capability: str) -> None:
        super().__init__(config, tenant)
        object.__setattr__(self, "_capability", capability)
        object.__setattr__(self, "online", OnlineStore(config, tenant, capability))
        object.__setattr__(self, "events", EventStore(config, tenant))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._config, self._tenant, self._capability)

    @property
    def vectors(self) -> "Vectors":
        from shoal.stores.vectors import open_vectors

        return open_vectors(self._config, self._tenant)

    @property
    def lake(self) -> "LakeStore":
        from shoal.stores.lake import LakeStore

        return LakeStore(self._config, self._tenant)


def open_stores(config: StoreConfig, tenant: str, capability: str) -> TenantStores:
    """The stores of one tenant, as one capability has them.

    Raises:
        ValueError: `tenant` is not a valid id.
    """
    return TenantStores(config, tenant, capability)


def import_stores(config: StoreConfig, names: Iterable[str]) -> None:
    """Import the libraries of some stores, by the names that `TenantStores` has."""
    stores = TenantStores(config, "imports", "imports")
    for name in names:
        getattr(stores, name)
