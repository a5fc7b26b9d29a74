"""Direct calls of operations: which they are, and that responses are the same."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Query,
    Request,
    Response,
)
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel, Field

from shoal import NotFound, Role, TenantContext, requires
from shoal.contract.rights import SERVICE_RIGHTS
from shoal.router.fast_path import fast_path
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights

pytestmark = pytest.mark.anyio

CONTEXT = TenantContext(
    tenant="acme",
    role=Role.reader,
    rights=SERVICE_RIGHTS[Role.reader],
    user=None,
    boards=None,
    request_id="r",
    stores=None,  # type: ignore[arg-type]
    services=None,  # type: ignore[arg-type]
    resolve=lambda model: model(),
    operations=lambda name, ctx: None,
)


class Answer(BaseModel):
    tenant: str = Field(alias="of")
    rest: int | None = None


class Licensed(APIRoute):
    """A route with a check of its own, as in FastAPI's documentation."""

    def get_route_handler(self) -> Any:
        async def handler(request: Request) -> Response:
            raise HTTPException(402, "no licence")

        return handler


def plain(text: str) -> Response:
    return Response(text, media_type="text/plain")


def query(name: str) -> dict[str, Any]:
    """OpenAPI of a query parameter that the handler reads itself."""
    return {"parameters": [{"name": name, "in": "query", "schema": {"type": "string"}}]}


def routes() -> APIRouter:
    router, nested, licensed = APIRouter(), APIRouter(), APIRouter(route_class=Licensed)

    @router.get("", openapi_extra=query("q"))
    async def root(
        request: Request, ctx: TenantContext = Depends(requires("read:own"))
    ) -> Response:
        route = request.scope["route"].shoal_path
        return plain(f"{ctx.tenant} {request.query_params['q']} {request.url.path} {route}")

    @router.post("")
    async def post(
        request: Request, ctx: TenantContext = Depends(requires("write:own"))
    ) -> Response:
        return plain(str(len(await request.body())))

    @router.get("/edit")
    async def edit(ctx: TenantContext = Depends(requires("write:own"))) -> Response:
        return plain("edited")

    @router.get("/gone")
    async def gone(ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        raise HTTPException(410, "it went", headers={"x-kind": "gone"})

    @router.get("/missing")
    async def missing(ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        raise NotFound("no such thing")

    @nested.get("/deep")
    async def deep(ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        return plain("deep")

    @router.get("/made/{name}")
    async def made(name: str, ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        return plain(f"made {name}")

    @router.get("/made/late")
    async def late(ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        return plain("never: the one before has it")

    @licensed.get("/licensed")
    async def plainly(ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        return plain("never: its route refuses it")

    router.include_router(licensed)

    @router.get("/dict")
    async def dictionary(ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, str]:
        return {"a": "b"}

    @router.get("/unsaid")
    async def unsaid(ctx: TenantContext = Depends(requires("read:own"))):  # type: ignore[no-untyped-def]
        return {"at": datetime(2026, 1, 2, tzinfo=UTC), "role": ctx.role}

    @router.get("/model")
    async def model(ctx: TenantContext = Depends(requires("read:own"))) -> Answer:
        return Answer(of=ctx.tenant)

    @router.get("/either", openapi_extra=query("text"))
    async def either(request: Request, ctx: TenantContext = Depends(requires("read:own"))):  # type: ignore[no-untyped-def]
        return plain("text") if "text" in request.query_params else ["a", 1, None]

    @router.get("/wrong")
    async def wrong(ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, int]:
        return {"a": "no number"}  # type: ignore[dict-item]

    @router.get("/teapot", status_code=418)
    async def teapot(ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, str]:
        return {"short": "and stout"}

    @router.get("/bare", response_model_exclude_none=True)
    async def bare(ctx: TenantContext = Depends(requires("read:own"))) -> Answer:
        return Answer(of=ctx.tenant)

    @router.get("/page", response_class=HTMLResponse)
    async def page(ctx: TenantContext = Depends(requires("read:own"))) -> str:
        return "<p>"

    @router.get("/number")
    async def number(
        n: int = Query(), ctx: TenantContext = Depends(requires("read:own"))
    ) -> Response:
        return plain(str(n))

    @router.get("/sync")
    def sync(ctx: TenantContext = Depends(requires("read:own"))) -> Response:
        return plain("sync")

    @router.get("/tasks")
    async def tasks(
        later: BackgroundTasks, ctx: TenantContext = Depends(requires("read:own"))
    ) -> Response:
        return plain("tasks")

    async def other() -> str:
        return "other"

    @router.get("/other")
    async def another(
        found: str = Depends(other), ctx: TenantContext = Depends(requires("read:own"))
    ) -> Response:
        return plain(found)

    router.include_router(nested, prefix="/nested")
    return router


@pytest.fixture
def past() -> list[str]:
    """The paths that FastAPI was called for."""
    return []


@pytest.fixture
def client(past: list[str]) -> AsyncClient:
    class Noted(FastAPI):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            past.append(scope["path"])
            await super().__call__(scope, receive, send)

    app, router = Noted(), routes()
    enforce_rights(router)

    @app.get("/x/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    app.include_router(router, prefix="/x")
    install_problem_handlers(app)
    return behind(fast_path(app, router, "/x"))


@pytest.fixture
def usual() -> AsyncClient:
    """The same operations, all called by FastAPI."""
    app, router = FastAPI(), routes()
    enforce_rights(router)
    app.include_router(router, prefix="/x")
    install_problem_handlers(app)
    return behind(app)


def behind(app: Any) -> AsyncClient:
    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        role = next(
            (value.decode() for name, value in scope["headers"] if name == b"role"), "reader"
        )
        scope["shoal.context"], scope["shoal.request_id"] = (
            replace(CONTEXT, role=role, rights=SERVICE_RIGHTS[role]),
            "r",
        )
        await app(scope, receive, send)

    return AsyncClient(transport=ASGITransport(guarded), base_url="http://shoal")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/x?q=1", "acme 1 /x "),
        ("/x/nested/deep", "deep"),
        ("/x/dict", '{"a":"b"}'),
        ("/x/model", '{"of":"acme","rest":null}'),
        ("/x/unsaid", '{"at":"2026-01-02T00:00:00+00:00","role":"reader"}'),
        ("/x/either?text", "text"),
        ("/x/either", '["a",1,null]'),
    ],
)
async def test_simple_operations_are_called_directly(
    client: AsyncClient, past: list[str], path: str, text: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, text)
    assert past == []


async def test_a_direct_operation_can_read_the_body(client: AsyncClient, past: list[str]) -> None:
    assert (await client.post("/x", content=b"12345", headers={"role": "editor"})).text == "5"
    assert past == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/x/bare", '{"of":"acme"}'),
        ("/x/page", "<p>"),
        ("/x/number?n=3", "3"),
        ("/x/sync", "sync"),
        ("/x/tasks", "tasks"),
        ("/x/other", "other"),
        ("/x/made/late", "made late"),
        ("/x/healthz", '{"status":"ok"}'),
    ],
)
async def test_all_other_operations_are_called_by_fastapi(
    client: AsyncClient, past: list[str], path: str, text: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, text)
    assert past == [path.partition("?")[0]]


PATHS = [
    "/licensed",
    "?q=1",
    "/dict",
    "/unsaid",
    "/model",
    "/either",
    "/either?text",
    "/teapot",
    "/bare",
    "/page",
    "/nested/deep",
    "/made/late",
    "/gone",
    "/nothing",
]


@pytest.mark.parametrize("path", PATHS)
async def test_direct_calls_respond_as_fastapi_does(
    client: AsyncClient, usual: AsyncClient, path: str
) -> None:
    one, other = await client.get(f"/x{path}"), await usual.get(f"/x{path}")
    assert (one.status_code, one.content, one.headers) == (
        other.status_code,
        other.content,
        other.headers,
    )


async def test_a_result_of_the_wrong_type_is_an_error(
    client: AsyncClient, usual: AsyncClient
) -> None:
    for way in (client, usual):
        with pytest.raises(ResponseValidationError):  # the Router logs it and answers 500
            await way.get("/x/wrong")


async def test_a_direct_operation_requires_its_right(client: AsyncClient) -> None:
    from shoal import Forbidden

    with pytest.raises(Forbidden):  # the Router makes a problem of it
        await client.get("/x/edit")
    with pytest.raises(Forbidden):
        await client.post("/x", content=b"")
    assert (await client.get("/x/edit", headers={"role": "editor"})).text == "edited"


async def test_errors_are_handled_as_elsewhere(client: AsyncClient, past: list[str]) -> None:
    gone = await client.get("/x/gone")
    assert (gone.status_code, gone.headers["x-kind"], gone.json()["detail"]) == (
        410,
        "gone",
        "it went",
    )
    assert gone.headers["content-type"] == "application/problem+json"
    with pytest.raises(NotFound):  # as above
        await client.get("/x/missing")
    assert past == []


async def test_a_custom_route_class_is_not_bypassed(client: AsyncClient, past: list[str]) -> None:
    assert (await client.get("/x/licensed")).status_code == 402
    assert past == ["/x/licensed"]


async def test_another_method_is_405(client: AsyncClient, past: list[str]) -> None:
    assert (await client.delete("/x/edit", headers={"role": "admin"})).status_code == 405
    assert past == ["/x/edit"]


async def test_a_direct_operation_needs_the_router() -> None:
    from shoal import InternalError

    app, router = FastAPI(), routes()
    enforce_rights(router)
    app.include_router(router, prefix="/x")
    async with AsyncClient(
        transport=ASGITransport(fast_path(app, router, "/x")), base_url="http://shoal"
    ) as client:
        with pytest.raises(InternalError):
            await client.get("/x?q=1")
