"""What is deployed, and the same as configuration for `serve deploy` and KubeRay. Needs
no Ray.
"""

from collections.abc import Iterable
from typing import Any

from .configuration import Config

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's access log is what the tail of the latency is made of; the Router keeps the
account instead.
"""


def prefixes(capabilities: Iterable[str]) -> dict[str, str]:
    """The applications to deploy, in order: name → route prefix."""
    return {"platform": "/platform", **{name: f"/{name}" for name in capabilities}, "console": "/"}


def declarative(
    config: Config, capabilities: Iterable[str], host: str | None = None
) -> dict[str, Any]:
    """The Ray Serve configuration. Each replica reads Shoal's own configuration from
    its environment (`SHOAL_…`).
    """
    applications = []
    for name, prefix in prefixes(capabilities).items():
        console = name == "console"
        applications.append(
            {
                "name": name,
                "route_prefix": prefix,
                "import_path": "shoal.console.application:build"
                if console
                else "shoal.runtime.application:build",
                "args": {} if console else {"capability": name},
                "logging_config": {**LOGGING},  # a copy, so that YAML needs no anchors
            }
        )
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host or config.host, "port": config.port},
        "logging_config": {**LOGGING},
        "applications": applications,
    }
