"""A tenant's context on a real Redis, and a server that receives notices."""

import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from shoal import Egress, Role, TenantContext
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal.testing import servers


@pytest.fixture
def free_port() -> int:
    return servers.free_port()


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server = servers.RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.port
    server.stop()


class DefaultServices:
    """Services without configuration: every setting has its default."""

    egress = Egress(allow=("127.0.0.1",))

    def settings(self, model: Any) -> Any:
        return model()


_tenants = count()


@pytest.fixture
async def ctx(redis_port: int, tmp_path: Path):
    """A context of a new tenant."""
    config = StoreConfig(
        online=f"redis://127.0.0.1:{redis_port}/0",
        vectors="http://127.0.0.1:1",
        lake=str(tmp_path / "lake"),
    )
    tenant = f"t{os.getpid()}-{next(_tenants)}"
    stores = open_stores(config, tenant)
    yield TenantContext(
        tenant,
        Role.admin,
        None,
        None,
        "r1",
        stores,
        DefaultServices(),  # type: ignore[arg-type]
        lambda model: model(),
        lambda name: None,
    )
    await close_connections()


@dataclass
class Webhook:
    """A local web server that receives notices and answers with `status`."""

    url: str
    status: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    import json

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.received.append(
                {"key": self.headers["Idempotency-Key"], "status": hook.status, **body}
            )
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Webhook(f"json://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    yield hook
    server.shutdown()
    server.server_close()
    thread.join()
