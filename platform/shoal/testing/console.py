"""Some capabilities, the platform and the console in one process, without Ray.

For tests of console pages in a browser, and for a look at a page while writing it:

    python -m shoal.testing.console search features --port 8100 --vectors http://…:19530
"""

import argparse
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from shoal.console.site import site
from shoal.contract.capability import Capability
from shoal.contract.rights import Role
from shoal.runtime import plugins
from shoal.runtime.configuration import Config
from shoal.runtime.plugins import Problem
from shoal.tenants.records import PLATFORM

from .local_platform import LocalPlatform
from .local_worker import LocalWorker
from .servers import RedisServer, free_port

SECRET = "for tests only, of this process alone"
TENANTS = ("acme", "globex")
NO_VECTORS = "http://127.0.0.1:1"


def serve_console(
    capabilities: Iterable[Capability],
    *,
    seed: Callable[[LocalPlatform], Awaitable[None]] | None = None,
    problems: Iterable[Problem] = (),
    statuses: Mapping[str, str] | None = None,
    vectors: str = NO_VECTORS,
    port: int | None = None,
    console: Mapping[str, Any] | None = None,
) -> None:
    """Serve until the process is stopped, on a Redis of its own.

    Prints one line of JSON when ready: the `address`, and `keys[tenant][role]` of the
    tenants acme and globex, and of the operator's own, `platform`.

    Args:
        capabilities: Those to serve.
        seed: Writes data before the line is printed.
        problems: Plugins to report as failed.
        statuses: What Serve would say of a capability that is not running.
        vectors: The URI of a vector store, for capabilities that need one.
        port: By default a free one.
        console: The section `console` of the configuration.
    """
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        try:
            stores = {"online": redis.url, "vectors": vectors, "lake": f"{folder}/lake"}
            config = Config.load(
                port=port,
                data=folder,
                stores=stores,
                router={"internal_secret": SECRET},
                console=dict(console or {}),
            )
            platform = LocalPlatform(config, capabilities, problems, statuses)

            async def prepare() -> None:
                keys = await create_keys(platform)
                if seed is not None:
                    await seed(platform)
                print(json.dumps({"address": address, "keys": keys}), flush=True)

            serve_platform(platform, prepare)
        finally:
            redis.stop()


def serve_platform(
    platform: LocalPlatform,
    prepare: Callable[[], Awaitable[None]],
    *,
    worker: LocalWorker | None = None,
    stop_seconds: int = 2,
) -> None:
    """Serve a platform and its console on its port until the process is stopped.

    Args:
        platform: Its applications are built here.
        prepare: Called when all is started.
        worker: Handles events and job runs meanwhile.
        stop_seconds: How long open requests may take to end.
    """
    platform.build_applications()
    uvicorn.run(
        _application(platform, prepare, worker),
        host="127.0.0.1",
        port=platform.config.port,
        log_level="warning",
        timeout_graceful_shutdown=stop_seconds,
    )


def _application(
    platform: LocalPlatform,
    prepare: Callable[[], Awaitable[None]],
    worker: LocalWorker | None,
) -> Callable[..., Awaitable[None]]:
    address = f"http://127.0.0.1:{platform.config.port}"
    console = site(
        platform.plugins.capabilities,
        address=address,
        secret=platform.secret,
        stores=platform.stores,
        sign_in=platform.config.console.sign_in,
        egress=platform.config.egress,
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            route: Any = platform.apps.get(scope["path"].split("/")[1], console)
            await route(scope, receive, send)
            return
        await receive()
        async with console.router.lifespan_context(console):
            await send({"type": "lifespan.startup.complete"})
            if worker is not None:
                await worker.start()
            await prepare()
            await receive()
            if worker is not None:
                await worker.stop()
        await platform.stop_applications()
        await send({"type": "lifespan.shutdown.complete"})

    return app


async def create_keys(platform: LocalPlatform) -> dict[str, dict[str, str]]:
    """Create the tenants, and a key of each role for each."""
    keys: dict[str, dict[str, str]] = {}
    for tenant in (*TENANTS, PLATFORM):
        if tenant != PLATFORM:
            await platform.directory.create_tenant(tenant, tenant.capitalize())
        keys[tenant] = {
            role.value: (await platform.directory.create_key(tenant, role))[1] for role in Role
        }
    return keys


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("capabilities", nargs="+", help="the names of installed capabilities")
    parser.add_argument("--port", type=int)
    parser.add_argument("--vectors", default=NO_VECTORS, help="the URI of a vector store")
    given = parser.parse_args()
    installed = plugins.installed().capabilities
    capabilities = [installed[name] for name in given.capabilities]
    serve_console(capabilities, port=given.port, vectors=given.vectors)


if __name__ == "__main__":
    main()
