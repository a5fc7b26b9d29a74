"""The console's ASGI application: the landing page, signing in, and the console."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.exceptions import HTTPException

from shoal.contract.capability import Capability
from shoal.egress.egress import Egress
from shoal.runtime.console_settings import SignInSettings
from shoal.stores.configuration import StoreConfig
from shoal.tenants.tasks import cancel_and_wait

from .changes import ChangeMarks
from .clients import ClientPool
from .landing import landing_page
from .oidc import IdentityProvider
from .open_pages import OpenPages
from .pages import Pages, refresh_session
from .session import Session, SessionCodec
from .sign_in import HOME, SignIn, plain_page
from .site_guard import SiteGuard
from .theme import FAVICON

SCRIPT = Path(__file__).with_name("browser.js").read_bytes()


def site(
    capabilities: Mapping[str, Capability],
    *,
    address: str,
    secret: str,
    stores: StoreConfig,
    dashboard: str | None = None,
    sign_in: SignInSettings | None = None,
    egress: Egress | None = None,
) -> FastAPI:
    """The console's application. Build it once per process, since NiceGUI is global.

    Args:
        capabilities: The deployed capabilities, by name.
        address: Where the platform's API answers.
        secret: Encrypts the sessions.
        stores: Where the platform keeps what open pages follow.
        dashboard: Address of the Ray dashboard, if it is to be linked.
        sign_in: The identity provider that people sign in with, if any.
        egress: Makes the connections to it.
    """
    sessions, clients = SessionCodec(secret), ClientPool(address)
    handlers = _Handlers(capabilities, dashboard)

    async def identify(session: Session) -> Session:
        client = await clients.get(session)
        return await refresh_session(client, session)

    pages = OpenPages(ChangeMarks(stores), identify)
    provider = None
    if sign_in is not None:
        provider = IdentityProvider(sign_in, egress or Egress(), secret)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(pages.run())
        yield
        await cancel_and_wait(following)
        await clients.close()
        if provider is not None:
            await provider.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(SiteGuard)
    app.exception_handler(HTTPException)(_problem)
    app.get("/")(handlers.landing)
    app.get("/favicon.svg")(_favicon)
    app.get("/console")(_redirect_home)
    app.get("/console/browser.js")(_script)
    SignIn(address, secret, sessions, provider, pages).register(app)
    Pages(capabilities, sessions=sessions, clients=clients, pages=pages).register()
    ui.run_with(
        app,
        mount_path="/console",
        title="Shoal",
        favicon=FAVICON,
        dark=None,
        language="en-US",
        show_welcome_message=False,
        reconnect_timeout=20,
    )
    # Quasar's bar of every request has no name for those who cannot see it.
    nicegui_app.config.quasar_config["loadingBar"] = {"skipHijack": True}
    nicegui_app.on_page_exception(Pages.draw_page_error)
    return app


class _Handlers:
    """The handlers that need to know what is deployed."""

    def __init__(self, capabilities: Mapping[str, Capability], dashboard: str | None) -> None:
        self._capabilities, self._dashboard = capabilities, dashboard

    async def landing(self, request: Request) -> HTMLResponse:
        page = landing_page(
            self._capabilities.values(),
            dashboard=self._dashboard,
            theme=request.cookies.get("shoal_theme"),
            nonce=request.scope["shoal.nonce"],
        )
        return plain_page(request, page)


async def _favicon() -> Response:
    headers = {"Cache-Control": "max-age=86400"}
    return Response(FAVICON, media_type="image/svg+xml", headers=headers)


async def _script() -> Response:
    headers = {"Cache-Control": "no-cache"}
    return Response(SCRIPT, media_type="text/javascript", headers=headers)


async def _redirect_home() -> RedirectResponse:
    return RedirectResponse(HOME)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    """An HTTP error as a problem document (RFC 9457)."""
    assert isinstance(error, HTTPException)
    body = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": f"{request.method} {request.url.path}: {error.detail}",
        "request_id": request.headers.get("x-request-id"),  # Serve's, which it also responds
    }
    return JSONResponse(
        body, error.status_code, error.headers, media_type="application/problem+json"
    )
