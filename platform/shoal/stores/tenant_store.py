"""What a tenant's stores have in common: the tenant, which nothing can change."""

from typing import Any

from shoal.contract.names import check_tenant

from .configuration import StoreConfig


class TenantStore:
    """Bound to one tenant for good. It can be pickled.

    Args:
        config: Where the stores are.
        tenant: The tenant's id. ValueError when it is not valid.
    """

    __slots__ = ("_config", "_tenant")

    _config: StoreConfig
    _tenant: str

    def __init__(self, config: StoreConfig, tenant: str) -> None:
        object.__setattr__(self, "_config", config)
        object.__setattr__(self, "_tenant", check_tenant(tenant))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is bound to its tenant")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is bound to its tenant")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._config, self._tenant)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._tenant}>"
