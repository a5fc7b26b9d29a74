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
from shoal.contract.rights import SERVICE_RIGHTS
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
    """Services whose settings are the defaults, but for what a test puts into them.

    Connections may be made to servers of the tests.
    """

    def __init__(self) -> None:
        self.egress = Egress(allow=("127.0.0.1",))
        self.section: dict[str, Any] = {}

    def settings(self, model: Any) -> Any:
        return model(**self.section)


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
    stores = open_stores(config, tenant, "anomalies")
    yield TenantContext(
        tenant,
        Role.admin,
        SERVICE_RIGHTS[Role.admin],
        None,
        None,
        "r1",
        stores,
        DefaultServices(),  # type: ignore[arg-type]
        lambda model: model(),
        lambda name, ctx: None,
        rejections=[],
    )
    await close_connections()


@dataclass
class Webhook:
    """A local web server that receives notices and answers with `status`.

    received: what the notices say; `requests` has headers and bodies.
    """

    url: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""
    received: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def channel(self) -> dict[str, Any]:
        return {"type": "webhook", "url": self.url}


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    import json

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.received.append(json.loads(body)["data"])
            hook.requests.append((dict(self.headers), body))
            self.send_response(hook.status)
            for name, value in hook.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(hook.answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    yield hook
    server.shutdown()
    server.server_close()
    thread.join()
