"""What every Serve replica of Shoal's does before it serves."""

import gc
import ipaddress
import logging
from typing import Any

import psutil

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def prepare_replica(host: str) -> None:
    """To be called by a deployment's constructor.

    Args:
        host: The configured interface. On loopback, so is the replica's own port.
    """
    log_to_replica_file()
    if host in LOOPBACK:
        bind_replica_port_to_loopback()


def freeze_objects() -> None:
    """To be called once everything is imported and built.

    The garbage collector no longer looks at what lives as long as the process: a full
    collection of it blocks the event loop for a good part of 0.1 s.
    """
    gc.collect()
    gc.freeze()


def log_to_replica_file() -> None:
    """Log into the replica's file.

    Serve redirects a replica's standard error into its own logger, whose level drops
    warnings and errors: the cause of every 500 would be lost.
    """
    logger = logging.getLogger("shoal")
    for handler in logging.getLogger("ray.serve").handlers:
        if handler not in logger.handlers:
            logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def bind_replica_port_to_loopback() -> None:
    """Bind the port for calls between replicas, which takes pickles, to loopback only.

    Ray 2.60 (`ray.serve._private.replica`) binds it to `[::]` after the deployment's
    constructor, without a credential and without an option for the address. On a
    cluster of several machines the port must be reachable: RAY_USE_TLS guards it there
    (docs/operations.md).
    """
    from ray.serve._private import replica as module

    replica: Any = module
    bind = replica.add_port_to_grpc_server
    if getattr(bind, "on_loopback", False):
        return

    def bind_to_loopback(server: object, address: str) -> int:
        port = int(bind(server, f"127.0.0.1:{address.rpartition(':')[2]}"))
        require_loopback(port)
        return port

    bind_to_loopback.on_loopback = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = bind_to_loopback


def require_loopback(port: int) -> None:
    """RuntimeError unless this process listens on the port, on loopback only."""
    listening = [
        connection.laddr.ip
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    ]
    if not listening or not all(map(_is_loopback, listening)):
        raise RuntimeError(
            f"the replica's port {port} must listen on loopback only, "
            f"but listens on {', '.join(listening) or 'no interface'}"
        )


def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
