"""Clients with the operator's rights, for whoever can read the data folder."""

from typing import Any

import orjson

from shoal.client.http import Client
from shoal.contract.errors import Unavailable
from shoal.contract.rights import Role
from shoal.router.credentials import mint_internal
from shoal.tenants.records import PLATFORM

from .configuration import Config

TOKEN_LIFETIME = 86_400
"""Seconds that an operator's token is valid."""


def running_config() -> Config:
    """The configuration that the platform of this data folder was started with.

    On a node that is configured by its environment alone (KubeRay), that environment.

    Raises:
        Unavailable: Shoal has not been started on this data folder, or the folder
            belongs to another user.
    """
    config = Config.load()
    folder = config.data.resolve()
    try:
        return Config(**orjson.loads((folder / "runtime.json").read_bytes()))
    except FileNotFoundError:
        if config.stores is not None and config.router.internal_secret is not None:
            return config
        raise Unavailable(
            f"Shoal has not been started on {folder} (`shoal up` starts it;"
            " --data names another folder)"
        ) from None
    except PermissionError:
        raise Unavailable(f"{folder} belongs to another user") from None


def operator_client(
    tenant: str | None = None, *, user: str | None = None, **options: Any
) -> Client:
    """A client of the platform that runs on this data folder.

    Args:
        tenant: Act for this tenant, with all its boards; by default, as the operator.
        user: Act for this user of the tenant.
        **options: Passed to `Client`.

    Raises:
        Unavailable: Shoal has not been started on this data folder.
    """
    config = running_config()
    secret = config.router.internal_secret
    assert secret is not None
    token = mint_internal(
        secret.get_secret_value(),
        tenant=tenant or PLATFORM,
        role=Role.admin,
        user=user,
        ttl=TOKEN_LIFETIME,
    )
    return Client(f"http://{config.host}:{config.port}", token, **options)
