"""The Serve applications, and the configuration of them for `serve deploy` and KubeRay.

Imports no Ray.
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .configuration import SETTINGS, Config
from .deployed_settings import deployed_settings

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's access log makes the slowest requests slower; the Router counts requests."""


@dataclass(frozen=True, slots=True)
class ServeApplication:
    """One application.

    Attributes:
        name: The capability's, or `console`.
        route_prefix: Where HTTP requests reach it.
        import_path: The builder, by name: the console's is in a layer above.
        args: What the builder is given.
    """

    name: str
    route_prefix: str
    import_path: str = "shoal.runtime.application:build"
    args: dict[str, Any] = field(default_factory=dict)


def serve_applications(capabilities: Iterable[str]) -> list[ServeApplication]:
    """The applications to deploy: the platform, each capability, the console."""
    return [
        *(
            ServeApplication(name, f"/{name}", args={"capability": name})
            for name in ("platform", *capabilities)
        ),
        ServeApplication("console", "/", "shoal.console.application:build"),
    ]


def declarative_config(
    config: Config, capabilities: Iterable[str], host: str | None = None
) -> dict[str, Any]:
    """The Ray Serve configuration.

    Each application brings Shoal's own settings, where there are any; the replicas read
    the secrets, and where they listen, from their environment (`SHOAL_…`).

    Args:
        config: Gives the interface, the port and the settings.
        capabilities: The names of those to deploy beside the platform's own.
        host: Another interface than the configured one.
    """
    settings = {k: v for k, v in deployed_settings(config).items() if k not in ("host", "port")}
    variables = {SETTINGS: json.dumps(settings, sort_keys=True)}
    environment = {"runtime_env": {"env_vars": variables}} if settings else {}
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host or config.host, "port": config.port},
        "logging_config": {**LOGGING},
        "applications": [
            {
                "name": application.name,
                "route_prefix": application.route_prefix,
                "import_path": application.import_path,
                "args": application.args,
                **copy.deepcopy(environment),
                "logging_config": {**LOGGING},  # a copy, so that YAML needs no anchors
            }
            for application in serve_applications(capabilities)
        ],
    }
