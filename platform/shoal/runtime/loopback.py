"""Serve's replicas open a port for one another that takes pickled calls, on every interface of the machine."""

from typing import Any

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def close_replica_port(host: str) -> None:
    """Have this process's replica open that port on loopback only, where the platform as a whole listens on loopback.

    Ray 2.60 (`ray.serve._private.replica`) binds it to `[::]` with no option to say otherwise, and there is no credential on it.
    Called by a deployment's constructor, which runs before the port is opened. On a cluster of several machines the port
    must be reachable: there RAY_USE_TLS guards it (docs/operations.md).
    """
    if host not in LOOPBACK:
        return
    from ray.serve._private import replica as module

    replica: Any = module
    bind = replica.add_port_to_grpc_server
    if getattr(bind, "closed", False):
        return

    def closed(server: object, address: str) -> int:
        return int(bind(server, address.replace("[::]", "127.0.0.1")))

    closed.closed = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = closed
