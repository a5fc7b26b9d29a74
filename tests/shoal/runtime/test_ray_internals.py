"""What Shoal relies on in Ray beyond its public interface, one test for each."""

import inspect
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from ray import serve
from ray.serve._private import replica as ray_replica

from shoal.api.capability import platform_capability
from shoal.runtime import replica
from shoal.runtime.application import capability_application
from shoal.runtime.ingress import Ingress


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray's module for replicas, whose port is bound to loopback."""
    monkeypatch.setattr(ray_replica, "add_port_to_grpc_server", ray_replica.add_port_to_grpc_server)
    replica.bind_replica_port_to_loopback()
    return ray_replica


def test_replicas_bind_by_add_port_to_grpc_server() -> None:
    source = inspect.getsource(ray_replica.Replica._on_initialized)
    assert 'add_port_to_grpc_server(self._server, "[::]:0")' in source
    assert inspect.getsource(ray_replica).count("add_insecure_port") == 0


@pytest.mark.anyio
async def test_a_replicas_port_listens_on_loopback(patched: Any) -> None:
    server = grpc.aio.server()
    port = patched.add_port_to_grpc_server(server, "[::]:0")
    replica.require_loopback(port)
    await server.stop(None)


@pytest.mark.anyio
async def test_a_port_on_all_interfaces_is_an_error() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("[::]:0")
    with pytest.raises(RuntimeError, match=f"port {port} must listen on loopback only"):
        replica.require_loopback(port)
    await server.stop(None)


def test_replicas_build_by_serve_build_asgi_app() -> None:
    assert ray_replica.SERVE_BUILD_ASGI_APP_METHOD == "__serve_build_asgi_app__"
    assert callable(Ingress.__serve_build_asgi_app__)
    assert serve.ingress()(Ingress).__name__ == "Ingress"
    assert capability_application(platform_capability) is not None
