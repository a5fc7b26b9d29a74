"""The console's ASGI application: the landing page, signing in, and the console."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.exceptions import HTTPException

from shoal.client.http import AsyncClient
from shoal.contract.capability import Capability
from shoal.contract.errors import Invalid, ShoalError, Unauthenticated

from .clients import ClientPool
from .landing import landing_page, sign_in_page
from .pages import Pages
from .session import COOKIE, LIFETIME, Session, SessionCodec
from .site_guard import SiteGuard, plain_policy
from .theme import FAVICON

HOME = "/console/"
MAX_FORM_BYTES = 16_384


def site(
    capabilities: Mapping[str, Capability],
    *,
    address: str,
    secret: str,
    dashboard: str | None = None,
) -> FastAPI:
    """The console's application. Build it once per process, since NiceGUI is global.

    Args:
        capabilities: The deployed capabilities, by name.
        address: Where the platform's API answers.
        secret: Encrypts the sessions.
        dashboard: Address of the Ray dashboard, if it is to be linked.
    """
    sessions, clients = SessionCodec(secret), ClientPool(address)
    handlers = _Handlers(capabilities, address, sessions, dashboard)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await clients.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(SiteGuard)
    app.exception_handler(HTTPException)(_problem)
    app.get("/")(handlers.landing)
    app.get("/favicon.svg")(_favicon)
    app.get("/console")(_redirect_home)
    app.get("/console/sign-in")(handlers.sign_in_form)
    app.post("/console/sign-in")(handlers.sign_in)
    app.post("/console/sign-out")(_sign_out)
    Pages(capabilities, sessions=sessions, clients=clients).register()
    ui.run_with(
        app,
        mount_path="/console",
        title="Shoal",
        favicon=FAVICON,
        dark=None,
        show_welcome_message=False,
        reconnect_timeout=20,
    )
    nicegui_app.on_page_exception(Pages.draw_page_error)
    return app


class _Handlers:
    """The handlers that need to know what is deployed, or the secret."""

    def __init__(
        self,
        capabilities: Mapping[str, Capability],
        address: str,
        sessions: SessionCodec,
        dashboard: str | None,
    ) -> None:
        self._capabilities, self._address = capabilities, address
        self._sessions, self._dashboard = sessions, dashboard

    async def landing(self, request: Request) -> HTMLResponse:
        page = landing_page(
            self._capabilities.values(),
            dashboard=self._dashboard,
            theme=request.cookies.get("shoal_theme"),
            nonce=request.scope["shoal.nonce"],
        )
        return _plain_page(request, page)

    async def sign_in_form(self, request: Request) -> HTMLResponse:
        return _form(request, after=request.query_params.get("after", HOME))

    async def sign_in(self, request: Request) -> Response:
        fields = await read_form(request)
        key, user, after = (fields.get(name, "").strip() for name in ("key", "user", "after"))
        try:
            session = await identify(self._address, key, user or None)
        except ShoalError as error:
            return _form(request, after=after, user=user, error=error.detail, status=error.status)
        response = RedirectResponse(local_path(after), 303)
        response.set_cookie(
            COOKIE,
            self._sessions.encode(session),
            max_age=int(LIFETIME.total_seconds()),
            path="/console",
            secure=request.headers.get("x-forwarded-proto", request.url.scheme) == "https",
            httponly=True,
            samesite="lax",
        )
        return response


async def _favicon() -> Response:
    headers = {"Cache-Control": "max-age=86400"}
    return Response(FAVICON, media_type="image/svg+xml", headers=headers)


async def _redirect_home() -> RedirectResponse:
    return RedirectResponse(HOME)


async def _sign_out() -> RedirectResponse:
    response = RedirectResponse("/console/sign-in", 303)
    response.delete_cookie(COOKIE, path="/console")
    return response


def _form(
    request: Request, *, after: str, user: str = "", error: str | None = None, status: int = 200
) -> HTMLResponse:
    page = sign_in_page(
        error=error,
        user=user,
        after=local_path(after),
        theme=request.cookies.get("shoal_theme"),
        nonce=request.scope["shoal.nonce"],
    )
    return _plain_page(request, page, status)


def _plain_page(request: Request, page: str, status: int = 200) -> HTMLResponse:
    policy = plain_policy(request.scope["shoal.nonce"])
    return HTMLResponse(page, status, {"Content-Security-Policy": policy})


async def _problem(request: Request, error: Exception) -> JSONResponse:
    """An HTTP error as a problem document (RFC 9457)."""
    assert isinstance(error, HTTPException)
    body = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": f"{request.method} {request.url.path}: {error.detail}",
    }
    return JSONResponse(
        body, error.status_code, error.headers, media_type="application/problem+json"
    )


async def identify(address: str, key: str, user: str | None) -> Session:
    """Ask the platform which tenant, role and user a key stands for.

    Raises:
        ShoalError: The key or user is not valid, or the platform does not answer.
    """
    if not (key.isascii() and key.isprintable() and key):
        raise Unauthenticated("Invalid or revoked API key")
    if user and not (user.isascii() and user.isprintable()):
        raise Invalid("a user's id must be plain ASCII")
    async with AsyncClient(address, key, user=user, timeout=10, retries=1) as client:
        me: dict[str, Any] = await client.platform.whoami()
    return Session(
        key,
        user or me.get("user"),
        me["tenant"],
        me.get("name") or me["tenant"],
        me["role"],
        me["rights"],
    )


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form.

    Raises:
        HTTPException: 413 when it is larger than `MAX_FORM_BYTES`.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, "the form is too large")
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def local_path(after: str) -> str:
    """`after` if it is a page of the console, else the home page.

    A link must not be able to redirect people to another site.
    """
    is_local = after.startswith(HOME) and "\\" not in after and all(ord(c) >= 33 for c in after)
    return quote(after, safe="/?&=%-_.~") if is_local else HOME
