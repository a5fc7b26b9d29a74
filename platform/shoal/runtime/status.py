"""What Serve says of the applications."""

import asyncio
from typing import Any


async def applications() -> dict[str, dict[str, Any]]:
    """Application name → {status, message, deployments: {name: {status, replicas}}}."""
    return await asyncio.to_thread(applications_now)


def applications_now() -> dict[str, dict[str, Any]]:
    from ray import serve

    found: dict[str, dict[str, Any]] = {}
    for name, app in serve.status().applications.items():
        found[name] = {
            "status": str(app.status.value if hasattr(app.status, "value") else app.status),
            "message": app.message,
            "deployments": {
                d: {"status": str(getattr(o.status, "value", o.status)), "replicas": {str(k): v for k, v in o.replica_states.items()}}
                for d, o in app.deployments.items()
            },
        }
    return found
