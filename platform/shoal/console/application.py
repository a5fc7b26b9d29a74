"""The Serve application of the console and the landing page, at `/`."""

from collections.abc import Awaitable, Callable

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from shoal.contract.capability import Scaling
from shoal.runtime.application import deployment_options
from shoal.runtime.context import PlatformContext
from shoal.runtime.replica import prepare_replica


class Arguments(BaseModel):
    """There are none; unknown ones are errors, which Serve would ignore."""

    model_config = ConfigDict(extra="forbid")


class Console:
    """The class that Serve deploys.

    In one replica, since a page's websocket must reach the process that drew the page.
    """

    def __init__(self) -> None:
        prepare_replica(PlatformContext.current().config.host)

    def __serve_build_asgi_app__(self) -> Callable[..., Awaitable[None]]:
        from .site import site

        platform = PlatformContext.current()
        config = platform.config
        host = "127.0.0.1" if config.host in ("0.0.0.0", "::", "") else config.host
        dashboard = f"http://{host}:{config.dashboard_port}" if config.address is None else None
        return site(
            platform.plugins.capabilities,
            address=f"http://{host}:{config.port}",
            secret=platform.secret,
            stores=platform.stores,
            dashboard=dashboard,
            sign_in=config.console.sign_in,
            egress=config.egress,
        )


def build(arguments: Arguments) -> Application:
    """Build the console's application. The Serve configuration names this."""
    deployment = serve.deployment(**deployment_options("console", Scaling(ongoing=200)))
    return deployment(serve.ingress()(Console)).bind()
