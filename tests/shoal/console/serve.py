"""The platform's routes, some capabilities and the console in one process under
uvicorn: real Redis, real Router, no Ray.

For the tests beside it, and for a look at a page while writing it:

    python tests/shoal/console/serve.py --port 8100 --plugins search,features

prints an address and a key per company and role as JSON, and serves until it is
stopped. Only what Serve would say of its applications is made up here.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import uvicorn
from fastapi import APIRouter, Depends
from nicegui import ui
from pydantic import Field

from shoal import Capability, Conflict, Job, Parameters, TenantContext, current_tenant
from shoal.api.capability import platform_capability
from shoal.console.site import site
from shoal.contract.context import Role
from shoal.local.redis_process import redis_binary
from shoal.runtime import ingress, plugins, status
from shoal.runtime.configuration import Config
from shoal.runtime.context import PlatformContext
from shoal.runtime.plugins import Plugins, Problem


class GreetingParameters(Parameters):
    warmth: float = Field(0.5, ge=0, le=1, description="From cool to effusive.")
    repeat: int = Field(1, ge=1, description="How many times.")
    language: Literal["english", "dutch"] = "english"
    loud: bool = False
    names: list[str] = Field(["world"], description="Whom to greet when nobody is named.")


def routes(_: Any) -> APIRouter:
    router = APIRouter()

    @router.get("/hello")
    async def hello(name: str, ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """Greet somebody.

        As warmly as the parameters say."""
        if name == "nobody":
            raise Conflict("nobody is not here")
        return {
            "greeting": f"Hello {name}, from {ctx.tenant}",
            "warmth": ctx.parameters(GreetingParameters).warmth,
        }

    return router


async def page(page: Any) -> None:
    name = ui.input("Name").props("outlined dense")
    answer = ui.label().mark("answer")

    async def greet() -> None:
        answer.set_text((await page.client.greeting.hello(name=name.value))["greeting"])

    ui.button("Greet", on_click=greet).props("unelevated")


def broken(_: Any) -> None:
    raise RuntimeError("a secret of the plugin")


SAMPLES = {
    c.name: c
    for c in (
        Capability(
            "greeting",
            "Says <b>hello</b>.",
            routes=routes,
            parameters=GreetingParameters,
            page=page,
            jobs=[
                Job("rehearse", lambda job: None, "Say it to the mirror.", cron="0 3 * * *"),
                Job("recite", lambda job: None, "Say it to a crowd."),
            ],
        ),
        Capability("cracked", "Has a page that fails.", routes=lambda _: APIRouter(), page=broken),
    )
}


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A redis-server on loopback, for as long as this runs."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [
                redis_binary(),
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                folder,
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", port), 0.1),
                ):
                    break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def keys(process: PlatformContext) -> dict[str, dict[str, str]]:
    """Two companies, and a key of each role for both."""
    directory = process.directory
    made: dict[str, dict[str, str]] = {}
    for company in ("acme", "globex"):
        await directory.create_tenant(company, company.capitalize())
        made[company] = {
            role.value: (await directory.create_key(company, role))[1] for role in Role
        }
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument(
        "--plugins", default="", help="installed capabilities to serve; none: two samples"
    )
    arguments.add_argument(
        "--vectors", default="http://127.0.0.1:19530", help="Milvus, for those who need it"
    )
    given = arguments.parse_args()
    port = given.port or free_port()

    with redis_server() as redis, tempfile.TemporaryDirectory() as folder:
        stores = {"online": redis, "vectors": given.vectors, "lake": str(Path(folder, "lake"))}
        wanted = given.plugins.split(",") if given.plugins else []
        installed = plugins.installed()
        served = {n: installed.capabilities[n] for n in wanted} or SAMPLES
        problems = (
            [] if wanted else [Problem("absent", "ModuleNotFoundError: No module named 'absent'")]
        )
        process = PlatformContext(
            Config(port=port, data=folder, stores=stores, router={"internal_secret": "s" * 40}),
            Plugins(installed.manager, served, installed.origins, problems),
            platform_capability,
        )
        status.applications_now = lambda: {  # type: ignore[assignment]
            name: {"status": "RUNNING" if name != "cracked" else "UNHEALTHY", "message": ""}
            for name in ("platform", *served)
        }
        apps = {
            name: ingress.application(process.capability(name), process)
            for name in ("platform", *served)
        }
        console = site(served, address=f"http://127.0.0.1:{port}", secret=process.secret)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                await apps.get(scope["path"].split("/")[1], console)(scope, receive, send)
                return
            await receive()
            async with console.router.lifespan_context(console):
                await send({"type": "lifespan.startup.complete"})
                print(
                    json.dumps(
                        {"address": f"http://127.0.0.1:{port}", "keys": await keys(process)}
                    ),
                    flush=True,
                )
                await receive()
            for guarded in (
                apps.values()
            ):  # as Serve does; a Router that is only cancelled may go on following the directory
                await guarded.stop()
            await send({"type": "lifespan.shutdown.complete"})

        uvicorn.run(
            app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2
        )


if __name__ == "__main__":
    main()
