"""An example plugin that uses everything a plugin can use."""

import asyncio
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from shoal import (
    Backend,
    Capability,
    Event,
    Invalid,
    Job,
    JobContext,
    NotFound,
    Parameters,
    Stream,
    TenantContext,
    hookimpl,
    requires,
)


class GreetingParameters(Parameters):
    warmth: float = Field(0.5, ge=0, le=1)


class Settings(BaseModel):
    greeting: str = "Hello"


class Note(BaseModel):
    text: str = Field(min_length=1, max_length=200)


class Shouter:
    """A backend. `shout` receives the texts of several calls at once."""

    def shout(self, texts: list[str]) -> list[str]:
        return [text.upper() for text in texts]

    def repeat(self, text: str, times: int) -> str:
        return text * times

    def refuse(self) -> None:
        raise Invalid("the shouter refuses", errors=[{"location": "shouter", "message": "no"}])


router = APIRouter()


@router.get("")
async def greet(
    name: str = "you", ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, object]:
    warmth = ctx.parameters(GreetingParameters).warmth
    text = f"{ctx.services.settings(Settings).greeting} {name}"
    if warmth > 0.5:
        text = await ctx.services.backend("shouter").shout(text)
    return {
        "text": text,
        "tenant": ctx.tenant,
        "user": ctx.user,
        "warmth": warmth,
        "variants": dict(ctx.variants),
    }


@router.get("/echo")
async def echo(size: int, ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, int]:
    """The size of what a backend returns for `size` characters, twice as many."""
    return {"size": len(await ctx.services.backend("shouter").repeat("a" * size, 2))}


@router.get("/refusal")
async def refusal(ctx: TenantContext = Depends(requires("read:own"))) -> None:
    await ctx.services.backend("shouter").refuse()


@router.put("/notes/{id}")
async def put_note(
    id: str, body: Note, ctx: TenantContext = Depends(requires("write:own"))
) -> dict[str, str]:
    await ctx.stores.online.hset(("note", id), mapping={"text": body.text})
    return {"id": id}


@router.get("/notes/{id}")
async def get_note(id: str, ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, str]:
    text = await ctx.stores.online.hget(("note", id), "text")
    if text is None:
        raise NotFound(f"no note {id!r}")
    return {"id": id, "text": text.decode()}


@router.post("/count", openapi_extra={"x-shoal-safe": True})
async def count(
    names: list[str], ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, int]:
    return {"count": len(names)}


@router.get("/seen")
async def seen(ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, object]:
    """The ids of the greetings that the stream has handled, in order."""
    return {"ids": [raw.decode() for raw in await ctx.stores.online.lrange(("seen",), 0, -1)]}


@router.get("/neighbours")
async def neighbours(ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, object]:
    """Another capability, called as the same caller; None where it is not deployed."""
    platform = ctx.capability("platform")
    assert platform is not None
    return {
        "capabilities": [c["name"] for c in (await platform.list_capabilities())["capabilities"]],
        "nowhere": ctx.capability("nowhere") is None,
    }


async def linger(
    id: str, seconds: float, ctx: TenantContext = Depends(requires("write:own"))
) -> None:
    """Write a note after some time."""
    await asyncio.sleep(seconds)
    await ctx.stores.online.hset(("note", id), mapping={"text": "finished"})


router.get("/linger", name="read_lingering", include_in_schema=False)(linger)
router.post("/linger", name="write_lingering", include_in_schema=False)(linger)


@router.get("/fault", include_in_schema=False)
async def fault(ctx: TenantContext = Depends(requires("read:own"))) -> None:
    raise RuntimeError("a bug of the plugin, with secret details")


async def remember(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Append each event's id once: a set has those that are in the list already."""
    for event in events:
        if event.data and event.data.get("poison"):
            raise ValueError("this greeting is poison")
        if await ctx.stores.online.sadd(("seen-ids",), event.id):
            await ctx.stores.online.rpush(("seen",), event.id)


def count_slowly(job: JobContext) -> dict[str, object]:
    """Sum squares with Ray Data, reporting progress."""
    import ray.data

    total = int(job.arguments.get("total", 10))
    job.progress(0, total, "counting")
    squares = ray.data.range(total).map(lambda row: {"square": row["id"] ** 2}).sum("square")
    job.progress(total, total, "counted")
    return {"sum": int(squares), "tenants": [ctx.tenant for ctx in job.tenants]}


def fail(job: JobContext) -> None:
    raise ValueError("this job always fails")


def sleep(job: JobContext) -> None:
    import time

    for second in range(1000):
        job.progress(second, 1000)
        time.sleep(0.1)


@hookimpl
def shoal_capabilities() -> list[Capability]:
    return [
        Capability(
            "greeting",
            "Says hello.",
            routes=lambda services: router,
            parameters=GreetingParameters,
            backends=[Backend("shouter", lambda services: Shouter(), batch="shout")],
            jobs=[
                Job("count", count_slowly, "Counts."),
                Job("fail", fail, "Fails."),
                Job("sleep", sleep, "Sleeps."),
            ],
            streams=[Stream("memory", ("greeting.*",), remember)],
            version="1.2.0",
        )
    ]


@hookimpl
async def shoal_tenant_added(ctx: TenantContext) -> None:
    await ctx.stores.online.hset(("note", "welcome"), mapping={"text": f"welcome, {ctx.tenant}"})


@hookimpl
async def shoal_tenant_removed(ctx: TenantContext) -> Mapping[str, int]:
    return {"farewells": 1}
