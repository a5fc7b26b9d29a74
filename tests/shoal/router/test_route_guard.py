"""What the route guard relies on in FastAPI, one test for each."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts, request_response

from shoal import requires
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import GuardedRoute, enforce_rights


@pytest.fixture
def router() -> APIRouter:
    inner, outer = APIRouter(), APIRouter()

    @inner.post("/items/{id}", dependencies=[Depends(requires("write:own"))])
    async def put(id: str, request: Request) -> dict[str, Any]:
        return {"id": id}

    outer.include_router(inner, prefix="/nested")
    return outer


def test_iter_route_contexts_finds_nested_routes(router: APIRouter) -> None:
    (context,) = iter_route_contexts(router.routes)
    assert context.path_format == "/nested/items/{id}" and context.methods == {"POST"}
    assert isinstance(context.original_route, APIRoute)


def test_a_route_runs_what_get_route_handler_returns(router: APIRouter) -> None:
    enforce_rights(router)
    (context,) = iter_route_contexts(router.routes)
    assert isinstance(context.original_route, GuardedRoute)
    assert callable(request_response(context.original_route.get_route_handler()))


def test_an_included_route_is_guarded(router: APIRouter) -> None:
    enforce_rights(router)
    app = FastAPI()
    app.include_router(router, prefix="/capability")
    install_problem_handlers(app)

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shoal") as client:
            return await client.post("/capability/nested/items/1")

    response = asyncio.run(post())
    assert response.status_code == 500 and "id" not in response.json()


def test_openapi_shows_the_right_of_an_operation(router: APIRouter) -> None:
    @router.get("/mine", openapi_extra={"x-shoal-safe": True})
    async def mine(ctx: Any = Depends(requires("read:own", others="read:tenant"))) -> None:
        """What is mine."""

    enforce_rights(router)
    app = FastAPI()
    app.include_router(router, prefix="/capability")
    paths = app.openapi()["paths"]
    put, get = paths["/capability/nested/items/{id}"]["post"], paths["/capability/mine"]["get"]
    assert (put["x-shoal-right"], put["description"]) == (
        "write:own",
        "Needs the right `write:own`.",
    )
    assert (get["x-shoal-right"], get["x-shoal-right-for-others"]) == ("read:own", "read:tenant")
    assert get["description"] == (
        "What is mine.\n\n"
        "Needs the right `read:own`, and `read:tenant` for data that are not the caller's own."
    )
    assert get["x-shoal-safe"]
