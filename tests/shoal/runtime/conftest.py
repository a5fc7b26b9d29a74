"""Real servers for the runtime's tests."""

import pytest

from shoal.stores.configuration import StoreConfig


@pytest.fixture(scope="session")
def redis_url(shoal_servers: StoreConfig) -> str:
    """A Redis, the way `shoal up` starts it."""
    return shoal_servers.online
