"""A capability that says hello, and knows whom it has met."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from shoal import (
    Capability,
    Event,
    Job,
    JobContext,
    PageContext,
    Parameters,
    Services,
    Stream,
    TenantContext,
    hookimpl,
    requires,
)


class GreetingParameters(Parameters):
    """What tenants set, and experiments vary."""

    warmth: float = Field(0.5, ge=0, le=1, description="From 0.8 on, an exclamation mark.")


class Greeting(BaseModel):
    text: str
    has_met: bool


def routes(services: Services) -> APIRouter:
    router = APIRouter()

    @router.get("")
    async def greet(
        name: str = "you", ctx: TenantContext = Depends(requires("read:own"))
    ) -> Greeting:
        """Greet someone by name."""
        mark = "!" if ctx.parameters(GreetingParameters).warmth >= 0.8 else "."
        has_met = bool(await ctx.stores.online.sismember(("names",), name))
        return Greeting(text=f"Hello {name}{mark}", has_met=has_met)

    return router


async def remember(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Keep the names of those who were met. Handling an event twice changes nothing."""
    for event in events:
        name = (event.data or {}).get("name")
        if isinstance(name, str):
            await ctx.stores.online.sadd(("names",), name)
        else:
            ctx.reject(event, "data.name: must be text")


async def count(job: JobContext) -> dict[str, int]:
    """Count the names of each tenant."""
    found = {}
    for done, ctx in enumerate(job.tenants, 1):
        found[ctx.tenant] = int(await ctx.stores.online.scard(("names",)))
        job.progress(done, len(job.tenants))
    return found


async def page(context: PageContext) -> None:
    """Draw the console page, with the rights of the key that signed in."""
    from nicegui import ui

    context.require("read:own")
    answer = await context.client.greeting.greet(name=context.query.get("name", "you"))
    ui.label(answer["text"])


@hookimpl
def shoal_capabilities() -> list[Capability]:
    return [
        Capability(
            "greeting",
            "Says hello.",
            routes=routes,
            parameters=GreetingParameters,
            streams=[Stream("names", ("person.met",), remember)],
            jobs=[Job("count", count, "Counts the names.", cron="0 3 * * *")],
            page=page,
        )
    ]
