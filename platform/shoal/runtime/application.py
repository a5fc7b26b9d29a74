"""From a capability to its Ray Serve application."""

import pkgutil
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from shoal.contract.capability import Capability, Scaling

from .backend_replica import BackendReplica
from .context import PlatformContext
from .ingress import Ingress
from .serve_config import LOGGING, ServeApplication


class Arguments(BaseModel):
    """The builder's arguments; unknown ones are errors, which Serve would ignore."""

    model_config = ConfigDict(extra="forbid")

    capability: str


def deployment_options(name: str, scaling: Scaling) -> dict[str, Any]:
    """The options of `serve.deployment` that give a deployment its scaling."""
    actor: dict[str, Any] = {"num_cpus": scaling.cpus, "num_gpus": scaling.gpus}
    if scaling.memory is not None:
        actor["memory"] = scaling.memory
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


def capability_application(capability: Capability) -> Application:
    """A capability's Serve application: its ingress, and the backends behind it."""
    backends = {}
    for spec in capability.backends:
        deployment = serve.deployment(**deployment_options(spec.name, spec.scaling))
        backends[spec.name] = deployment(BackendReplica).bind(capability.name, spec.name)
    deployment = serve.deployment(**deployment_options("ingress", capability.scaling))
    return deployment(serve.ingress()(Ingress)).bind(capability.name, **backends)


def build(arguments: Arguments) -> Application:
    """Build a capability's application. The Serve configuration names this."""
    return capability_application(PlatformContext.current().capability(arguments.capability))


def build_application(spec: ServeApplication) -> Application:
    """Build an application by its import path, as `serve deploy` would."""
    builder = pkgutil.resolve_name(spec.import_path)
    (arguments,) = [t for name, t in get_type_hints(builder).items() if name != "return"]
    application: Application = builder(arguments(**spec.args))
    return application
