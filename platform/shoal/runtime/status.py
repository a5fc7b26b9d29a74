"""What Serve says of the applications."""

import re
from typing import Any

NAMED = re.compile(r"[\w.]*(Error|Exception|Invalid|Unavailable)\b.*:")


def applications_now() -> dict[str, dict[str, Any]]:
    """Application name → {status, message, deployments: {name: {status, replicas}}}."""
    from ray import serve

    found: dict[str, dict[str, Any]] = {}
    for name, app in serve.status().applications.items():
        status = str(app.status.value)
        broken = [
            d.message
            for d in app.deployments.values()
            if d.message and "FAILED" in str(d.status.value) + status
        ]
        found[name] = {
            "status": status,
            "message": cause("\n".join([app.message, *broken])),
            "deployments": {
                d: {
                    "status": str(o.status.value),
                    "replicas": {str(k): v for k, v in o.replica_states.items()},
                }
                for d, o in app.deployments.items()
            },
        }
    return found


def cause(message: str) -> str:
    """What a person wants to read first of Serve's message: the last line of a
    traceback that names an error, else its last line.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = [line for line in lines if NAMED.match(line)]
    return named[-1] if named else (lines[-1] if lines else "")
