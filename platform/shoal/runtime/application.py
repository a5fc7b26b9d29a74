"""From a capability to its Ray Serve application."""

import pkgutil
from dataclasses import replace
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from shoal.contract.capability import Capability, Scaling

from .backend_replica import BackendReplica
from .cluster import TOKEN_MEMORY
from .context import PlatformContext
from .ingress import Ingress
from .serve_config import LOGGING, ServeApplication


class Arguments(BaseModel):
    """The builder's arguments; unknown ones are errors, which Serve would ignore."""

    model_config = ConfigDict(extra="forbid")

    capability: str


def deployment_options(name: str, scaling: Scaling) -> dict[str, Any]:
    """The options of `serve.deployment` that give a deployment its scaling."""
    memory = scaling.memory or TOKEN_MEMORY
    actor: dict[str, Any] = {"num_cpus": scaling.cpus, "num_gpus": scaling.gpus, "memory": memory}
    options: dict[str, Any] = {
        "name": name,
        "ray_actor_options": actor,
        "max_ongoing_requests": scaling.ongoing,
        "max_surge_percent": 100,
        "graceful_shutdown_timeout_s": 20,
        "logging_config": LOGGING,
    }
    if scaling.max_replicas > scaling.min_replicas:
        options["autoscaling_config"] = {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": max(1.0, scaling.ongoing / 2),
        }
    else:
        options["num_replicas"] = scaling.min_replicas
    return options


def with_replicas(scaling: Scaling, least: int) -> Scaling:
    """A scaling with at least so many replicas, unless they need GPUs."""
    if scaling.gpus:
        return scaling
    return replace(
        scaling,
        min_replicas=max(scaling.min_replicas, least),
        max_replicas=max(scaling.max_replicas, least),
    )


def capability_application(capability: Capability, replicas: int = 1) -> Application:
    """A capability's Serve application: its ingress, and the backends behind it.

    Args:
        capability: Its scaling may ask for more replicas.
        replicas: The least number of each that needs no GPU.
    """
    backends = {}
    for spec in capability.backends:
        scaling = with_replicas(spec.scaling, replicas)
        deployment = serve.deployment(**deployment_options(spec.name, scaling))
        backends[spec.name] = deployment(BackendReplica).bind(capability.name, spec.name)
    scaling = with_replicas(capability.scaling, replicas)
    deployment = serve.deployment(**deployment_options("ingress", scaling))
    return deployment(serve.ingress()(Ingress)).bind(capability.name, **backends)


def build(arguments: Arguments) -> Application:
    """Build a capability's application. The Serve configuration names this."""
    platform = PlatformContext.current()
    capability = platform.capability(arguments.capability)
    return capability_application(capability, platform.config.min_replicas)


def build_application(spec: ServeApplication) -> Application:
    """Build an application by its import path, as `serve deploy` would."""
    builder = pkgutil.resolve_name(spec.import_path)
    (arguments,) = [t for name, t in get_type_hints(builder).items() if name != "return"]
    application: Application = builder(arguments(**spec.args))
    return application
