"""What every Serve replica of ours needs done to it before it serves."""

import logging
from typing import Any

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def prepare_replica(host: str) -> None:
    """Called by a deployment's constructor."""
    log_to_the_replicas_file()
    if host in LOOPBACK:
        close_replica_port()


def log_to_the_replicas_file() -> None:
    """Serve redirects a replica's standard error into its own logger, whose level drops
    it; without this every logged cause of a 500 would be lost.
    """
    logger = logging.getLogger("shoal")
    for handler in logging.getLogger("ray.serve").handlers:
        if handler not in logger.handlers:
            logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def close_replica_port() -> None:
    """Open the port on which this replica takes pickled calls of other replicas on
    loopback only.

    Ray 2.60 (`ray.serve._private.replica`) binds it to `[::]` with no option to say
    otherwise, and there is no credential on it. A deployment's constructor runs before
    the port is opened. On a cluster of several machines the port must be reachable:
    there RAY_USE_TLS guards it (docs/operations.md).
    """
    from ray.serve._private import replica as module

    replica: Any = module
    bind = replica.add_port_to_grpc_server
    if getattr(bind, "closed", False):
        return

    def closed(server: object, address: str) -> int:
        return int(bind(server, address.replace("[::]", "127.0.0.1")))

    closed.closed = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = closed
