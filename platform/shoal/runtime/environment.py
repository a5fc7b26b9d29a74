"""The environment that every process of the cluster needs."""

import os
from pathlib import Path

import shoal_ray_preload

from .configuration import TOKEN_FILE, Config
from .deployed_settings import deployed_environment
from .haproxy import haproxy_environment, launcher_environment
from .replica import LOOPBACK


def token_environment(folder: Path) -> dict[str, str]:
    """What makes all of Ray's ports ask for a token: they run code for their users.

    What the operator has set takes precedence.

    Args:
        folder: The data folder, where `shoal up` writes the token.
    """
    env = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    if "RAY_AUTH_TOKEN" not in os.environ:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH", str(folder.resolve() / TOKEN_FILE))
        env["RAY_AUTH_TOKEN_PATH"] = path
    return env


def cluster_environment(config: Config, runtime: Path) -> dict[str, str]:
    """The environment variables, which Serve reads when it is imported.

    Args:
        config: The platform's configuration.
        runtime: Where `shoal up` starts the cluster itself, the file of the
            configuration, for `PlatformContext.current`. HAProxy's launcher is written
            beside it. Another cluster has its launchers, on each machine.
    """
    env = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        # Ray runs workers at niceness 15, behind its own daemons; replicas answer
        # requests, and must not wait for those.
        "RAY_worker_niceness": "0",
        # How long a replaced ingress replica still answers; HAProxy knows of its
        # successor well before.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # A backend's arguments and results may be large (a model, a plan); gRPC's
        # default limit is 4 MiB.
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**30),
        # An arena for each of dozens of threads makes processes half again as large.
        "MALLOC_ARENA_MAX": "2",
        # Idle job workers are not kept for the next job: they hold 200 MB each, and a
        # new one starts in a second.
        "RAY_num_workers_soft_limit": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "GRPC_VERBOSITY": "ERROR",
        **shoal_ray_preload.ENVIRONMENT,
        **haproxy_environment(config),
    }
    if config.address is None:
        env |= token_environment(runtime.parent) | launcher_environment(config, runtime.parent)
        env["SHOAL_RUNTIME"] = str(runtime)
    else:
        env |= deployed_environment(config)
        # How long the other machines go on serving without Ray's head; then their
        # raylets end.
        env["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"
        # A machine without power is given up after 10 to 15 s, and not 65: calls to its
        # replicas wait until then.
        env["RAY_health_check_period_ms"] = "1000"
        env["RAY_health_check_timeout_ms"] = "2000"
        env["RAY_health_check_failure_threshold"] = "5"
    if config.host in LOOPBACK:
        # Ray's documented switch for desktops: every server of the cluster listens on
        # loopback only. Without it, Ray replaces 127.0.0.1 by the machine's address,
        # and its ports run code for whoever connects.
        env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return env
