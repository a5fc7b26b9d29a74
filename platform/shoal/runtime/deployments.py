"""Calls to Serve deployments, by handle."""

from typing import Any

from shoal.contract.errors import Unavailable


async def call_deployment(application: str, deployment: str, method: str, *args: Any) -> Any:
    """Call a method of a deployment, on whichever replica Serve chooses.

    Raises:
        Unavailable: The deployment is missing, overloaded, or its replica died.
    """
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import (
        BackPressureError,
        DeploymentUnavailableError,
        RayServeException,
    )

    try:
        handle = serve.get_deployment_handle(deployment, app_name=application)
        return await getattr(handle, method).remote(*args)
    except (
        RayActorError,
        BackPressureError,
        DeploymentUnavailableError,
        RayServeException,
    ) as error:
        raise Unavailable(
            f"deployment {deployment} of {application} is unavailable: {type(error).__name__}",
            retry_after=1,
        ) from error
