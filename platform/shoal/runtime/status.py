"""The capabilities as they are listed, and the state of their applications."""

import re
from typing import Any

from shoal.contract.capability import Capability

ERROR_LINE = re.compile(r"[\w.]*(Error|Exception|Invalid|Unavailable)\b.*:")
"""The line of a traceback that names the error."""


def applications_now() -> dict[str, dict[str, Any]]:
    """The state of each application, by name.

    Returns:
        `{"search": {"status": "RUNNING", "message": "", "deployments": {"ingress":
        {"status": "HEALTHY", "replicas": {"RUNNING": 1}}}}}`.
    """
    from ray import serve

    found: dict[str, dict[str, Any]] = {}
    for name, app in serve.status().applications.items():
        status = str(app.status.value)
        failures = [
            deployment.message
            for deployment in app.deployments.values()
            if deployment.message and "FAILED" in str(deployment.status.value) + status
        ]
        found[name] = {
            "status": status,
            "message": cause("\n".join([app.message, *failures])),
            "deployments": {
                deployment_name: {
                    "status": str(deployment.status.value),
                    "replicas": {str(k): v for k, v in deployment.replica_states.items()},
                }
                for deployment_name, deployment in app.deployments.items()
            },
        }
    return found


def cause(message: str) -> str:
    """The line of a message with a traceback that says what went wrong.

    The last line that names an error, else the last line.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.match(line)]
    return (errors or lines or [""])[-1]


def describe_capability(capability: Capability) -> dict[str, Any]:
    """What the platform lists of a capability, without its state."""
    model = capability.parameters
    return {
        "name": capability.name,
        "version": capability.version,
        "summary": capability.summary,
        "parameters": model.model_json_schema() if model else None,
        "jobs": [f"{capability.name}.{job.name}" for job in capability.jobs],
        "streams": [f"{capability.name}.{stream.name}" for stream in capability.streams],
        "page": capability.page is not None,
    }
