"""From a capability to its Ray Serve application, deployed by code or by the
declarative configuration that names `build`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from shoal.contract.capability import Capability, Scaling

from .backend_replica import BackendReplica
from .context import PlatformContext
from .ingress import Ingress
from .serve_config import LOGGING


class Arguments(BaseModel):
    """What the declarative configuration may say of an application. Unknown keys are
    refused here, since Serve would ignore them.
    """

    model_config = ConfigDict(extra="forbid")

    capability: str


def options(name: str, scaling: Scaling) -> dict[str, Any]:
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


def application(capability: Capability) -> Application:
    """The Serve application of a capability: the guarded ingress, and its backends
    behind it.
    """
    backends = {
        spec.name: serve.deployment(**options(spec.name, spec.scaling))(BackendReplica).bind(
            capability.name, spec.name
        )
        for spec in capability.backends
    }
    ingress = serve.deployment(**options("ingress", capability.scaling))(serve.ingress()(Ingress))
    return ingress.bind(capability.name, **backends)


def build(arguments: Arguments) -> Application:
    """The builder that the declarative configuration names by import path."""
    return application(PlatformContext.current().capability(arguments.capability))
