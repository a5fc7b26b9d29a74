"""Deploying the Serve applications to a cluster, and waiting until they run."""

import asyncio
import time
from collections.abc import Callable

from shoal.contract.errors import NotFound

TIMEOUT = 300.0
"""Seconds until the applications must be running."""

Progress = Callable[[str], None]


def deploy_applications(progress: Progress, names: list[str] | None = None) -> dict[str, str]:
    """Deploy applications to the cluster that this process is connected to.

    Applications that are not named are not touched.

    Args:
        progress: Called with each line of progress.
        names: Capabilities, "platform" or "console"; all when None or empty.

    Returns:
        The applications that failed, with the cause.

    Raises:
        NotFound: A name is not an application.
    """
    from ray import serve

    from .application import build_application
    from .context import PlatformContext
    from .serve_config import LOGGING, serve_applications
    from .stream_worker import stop_workers

    platform = PlatformContext.current()
    specs = {spec.name: spec for spec in serve_applications(platform.plugins.capabilities)}
    if unknown := sorted(set(names or ()) - set(specs)):
        raise NotFound(f"No capability {', '.join(unknown)}; there are {', '.join(specs)}")
    names = names or list(specs)
    targets = [
        serve.RunTarget(
            target=build_application(specs[name]),
            name=name,
            route_prefix=specs[name].route_prefix,
            logging_config=LOGGING,
        )
        for name in names
    ]
    serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    failed, late = _wait_until_running(names, progress)
    if not late:
        # The platform's ingress starts them again, with the new code.
        asyncio.run(stop_workers(platform))
    return failed | late


def _wait_until_running(
    names: list[str], progress: Progress
) -> tuple[dict[str, str], dict[str, str]]:
    """The applications that failed, and those not ready in time, with the cause."""
    from .status import applications_now

    deadline, shown = time.monotonic() + TIMEOUT, -1
    while True:
        states = applications_now()
        status = {name: states.get(name, {}).get("status") for name in names}
        failed = {n: states[n]["message"] for n in names if status[n] == "DEPLOY_FAILED"}
        waiting = [n for n in names if status[n] != "RUNNING"]
        running = len(names) - len(waiting)
        if running != shown:
            shown = running
            suffix = f", waiting for {', '.join(waiting)}" if waiting else ""
            progress(f"{running} of {len(names)} applications are running{suffix}")
        waiting = [n for n in waiting if n not in failed]
        if not waiting:
            return failed, {}
        if time.monotonic() > deadline:
            return failed, {
                n: f"not ready after {TIMEOUT:.0f} s: {states.get(n, {}).get('message', '')}"
                for n in waiting
            }
        time.sleep(0.3)
