"""Real servers for the runtime's tests."""

from collections.abc import Iterator

import pytest

from shoal.embedded import EmbeddedServers


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redis-server of these tests' own, the way `shoal up` starts it."""
    servers = EmbeddedServers(tmp_path_factory.mktemp("redis"))
    config = servers.start()
    try:
        yield config.online
    finally:
        servers.stop()
