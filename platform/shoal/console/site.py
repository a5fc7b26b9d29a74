"""The console's ASGI application: landing page at `/`, the console at `/console`, and
nothing else.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint

from shoal.client.http import AsyncClient
from shoal.contract.capability import Capability
from shoal.contract.errors import Invalid, ShoalError, Unauthenticated

from .clients import Clients
from .landing import landing, sign_in
from .pages import Pages
from .session import COOKIE, LIFETIME, Seal, Session
from .theme import FAVICON

HOME = "/console/"
LARGEST_FORM = 16_384


def site(
    capabilities: Mapping[str, Capability],
    *,
    address: str,
    secret: str,
    dashboard: str | None = None,
) -> FastAPI:
    """The whole site. `address` is where the platform answers; `secret` seals the
    sessions. Once per process: NiceGUI is global.
    """
    seal, clients = Seal(secret), Clients(address)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await clients.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)

    @app.middleware("http")
    async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        if "text/html" in response.headers.get("content-type", ""):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(HTTPException)
    async def problem(request: Request, error: HTTPException) -> Response:
        body = {
            "type": "about:blank",
            "title": error.detail,
            "status": error.status_code,
            "detail": f"{request.method} {request.url.path}: {error.detail}",
        }
        return JSONResponse(
            body, error.status_code, error.headers, media_type="application/problem+json"
        )

    @app.get("/")
    async def front(request: Request) -> HTMLResponse:
        return HTMLResponse(
            landing(
                capabilities.values(), dashboard=dashboard, theme=request.cookies.get("shoal_theme")
            )
        )

    @app.get("/favicon.svg")
    async def favicon() -> Response:
        return Response(
            FAVICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"}
        )

    @app.get("/console")
    async def slash() -> RedirectResponse:
        return RedirectResponse(HOME)

    @app.get("/console/sign-in")
    async def door(request: Request) -> HTMLResponse:
        return form(request, after=request.query_params.get("after", HOME))

    @app.post("/console/sign-in")
    async def enter(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise HTTPException(403, "this form was sent from another site")
        fields = await read_form(request)
        key, user, after = (fields.get(name, "").strip() for name in ("key", "user", "after"))
        try:
            session = await identify(address, key, user or None)
        except ShoalError as error:
            return form(request, after=after, user=user, refused=error.detail, status=error.status)
        response = RedirectResponse(local(after), 303)
        response.set_cookie(
            COOKIE,
            seal.close(session),
            max_age=int(LIFETIME.total_seconds()),
            path="/console",
            secure=request.headers.get("x-forwarded-proto", request.url.scheme) == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    @app.post("/console/sign-out")
    async def leave() -> RedirectResponse:
        response = RedirectResponse("/console/sign-in", 303)
        response.delete_cookie(COOKIE, path="/console")
        return response

    def form(
        request: Request,
        *,
        after: str,
        user: str = "",
        refused: str | None = None,
        status: int = 200,
    ) -> HTMLResponse:
        theme = request.cookies.get("shoal_theme")
        return HTMLResponse(
            sign_in(refused=refused, user=user, after=local(after), theme=theme), status
        )

    Pages(capabilities, seal=seal, clients=clients).register()
    ui.run_with(
        app,
        mount_path="/console",
        title="Shoal",
        favicon=FAVICON,
        dark=None,
        show_welcome_message=False,
        reconnect_timeout=20,
    )
    nicegui_app.on_page_exception(Pages.broken)
    return app


async def identify(address: str, key: str, user: str | None) -> Session:
    """Ask the platform whose key this is. ShoalError when it refuses, or does not
    answer.
    """
    if not (key.isascii() and key.isprintable() and key):
        raise Unauthenticated("that is no API key")
    if user and not (user.isascii() and user.isprintable()):
        raise Invalid("a user's id travels in a header, which takes plain ASCII only")
    async with AsyncClient(address, key, user=user, timeout=10, retries=1) as client:
        me: dict[str, Any] = await client.platform.whoami()
    return Session(
        key, user or me.get("user"), me["tenant"], me.get("name") or me["tenant"], me["role"]
    )


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form. 413 when it is not small."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, "the form is too large")
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def local(after: str) -> str:
    """`after` if it is a page of the console, else the home page: a link may not send
    people elsewhere.
    """
    inside = after.startswith(HOME) and "\\" not in after and not any(ord(c) < 33 for c in after)
    return quote(after, safe="/?&=%-_.~") if inside else HOME
