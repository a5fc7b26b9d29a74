"""Capabilities for the console to show."""

from typing import Any, Literal

from fastapi import APIRouter, Depends
from nicegui import ui
from pydantic import Field

from shoal import Capability, Conflict, Job, Parameters, TenantContext, requires


class GreetingParameters(Parameters):
    warmth: float = Field(0.5, ge=0, le=1, description="From cool to effusive.")
    repeat: int = Field(1, ge=1, description="How many times.")
    language: Literal["english", "dutch"] = "english"
    loud: bool = False
    names: list[str] = Field(["world"], description="Whom to greet when nobody is named.")


def routes(_: Any) -> APIRouter:
    router = APIRouter()

    @router.get("/hello")
    async def hello(
        name: str, ctx: TenantContext = Depends(requires("read:own"))
    ) -> dict[str, Any]:
        """Greet somebody.

        As warmly as the parameters say.
        """
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
    ui.label(f"Rehearsed {page.format_time('2026-07-01T06:05:00Z')}")

    async def greet() -> None:
        answer.set_text((await page.client.greeting.hello(name=name.value))["greeting"])

    ui.button("Greet", on_click=greet).props("unelevated")


def broken_page(_: Any) -> None:
    raise RuntimeError("a secret of the plugin")


GREETING = Capability(
    "greeting",
    "Says <b>hello</b>.",
    routes=routes,
    parameters=GreetingParameters,
    page=page,
    jobs=[
        Job("rehearse", lambda job: None, "Say it to the mirror.", cron="0 3 * * *"),
        Job("recite", lambda job: None, "Say it to a crowd."),
    ],
)
CRACKED = Capability(
    "cracked", "Has a page that fails.", routes=lambda _: APIRouter(), page=broken_page
)
