"""A driver's connection to the Ray cluster, and Ray Serve on it."""

import logging
import os
from typing import Any

from shoal.contract.errors import Unavailable

from .configuration import SETTINGS, Config
from .environment import cluster_environment
from .serve_config import LOGGING
from .status import cause

NAMESPACE = "shoal"
TOKEN_MEMORY = 2**20
"""Bytes that an actor reserves so that Ray's SPREAD takes the machines in turn.

Actors that reserve nothing are scheduled by a random machine, each of which has a turn
of its own (Ray 2.60, `GcsActorScheduler::SelectForwardingNode`).
"""
SPREAD = {"scheduling_strategy": "SPREAD", "num_cpus": 0, "memory": TOKEN_MEMORY}
"""Options of an actor that any machine may have."""


def connect(address: str) -> Any:
    """Become a driver of the cluster at this address.

    The deployment's settings, if the environment has them, reach all that it starts.
    """
    import ray

    if not ray.is_initialized():
        settings = {n: v for n, v in os.environ.items() if n == SETTINGS}
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": settings} if settings else None,
        )
    return ray


def join(config: Config) -> Any:
    """Become a driver of the running cluster of this configuration.

    To be called before Ray is imported, since it sets the cluster's environment.
    """
    os.environ.update(cluster_environment(config, config.data / "runtime.json"))
    return connect(config.address or f"{config.host}:{config.ray_port}")


def start_serve(config: Config) -> None:
    """Start Serve's controller and HTTP proxies on the configured interface and port.

    Raises:
        Unavailable: They did not start, such as HAProxy with an open configuration.
    """
    from ray import serve
    from ray.exceptions import RayError

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.start(
            http_options={
                "host": config.host,
                "port": config.port,
                "location": "HeadOnly" if config.address is None else "EveryNode",
            },
            logging_config={**LOGGING},
        )
    except (RayError, TimeoutError) as error:
        raise Unavailable(f"Ray Serve did not start: {cause(str(error))}") from error


def stop_serve() -> None:
    """Stop Serve, and HAProxy with it, which `ray stop` alone would leave running."""
    from ray import serve

    serve.shutdown()  # type: ignore[no-untyped-call]
