"""The operator's way in: whoever can read the data folder operates the platform, with a
token that lives for a day.
"""

from typing import Any

import orjson

from shoal.client.http import Client
from shoal.contract.context import Role
from shoal.contract.errors import Unavailable
from shoal.router.credentials import mint_internal
from shoal.tenants.records import PLATFORM

from .configuration import Config


def runtime() -> Config:
    """The configuration that the running platform of this data folder was started with;
    on a node that is configured by its environment alone (KubeRay), that.
    """
    config = Config.load()
    folder = config.data.resolve()
    try:
        return Config(**orjson.loads((folder / "runtime.json").read_bytes()))
    except FileNotFoundError:
        if config.stores is not None and config.router.internal_secret is not None:
            return config
        raise Unavailable(
            f"Shoal has not been started on {folder} (`shoal up` starts it; --data names another folder)"
        ) from None
    except PermissionError:
        raise Unavailable(f"{folder} is another user's") from None


def operator_client(
    tenant: str | None = None, *, user: str | None = None, **options: Any
) -> Client:
    """A client of the platform that runs on this data folder: its operator's, or acting
    for one tenant with all its boards. `options` are the Client's.
    """
    config = runtime()
    secret = config.router.internal_secret
    assert secret is not None
    token = mint_internal(
        secret.get_secret_value(), tenant=tenant or PLATFORM, role=Role.admin, user=user, ttl=86_400
    )
    return Client(f"http://{config.host}:{config.port}", token, **options)
