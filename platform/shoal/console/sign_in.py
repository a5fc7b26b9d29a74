"""Signing in to the console and out of it: with an API key, or an identity provider."""

import time
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import orjson
from cryptography.fernet import InvalidToken
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from shoal.client.http import AsyncClient
from shoal.contract.errors import Invalid, ShoalError, Unauthenticated

from .landing import sign_in_page, signed_out_page
from .oidc import Attempt, IdentityProvider
from .open_pages import OpenPages
from .session import COOKIE, Session, SessionCodec, fernet, is_secure, set_session
from .site_guard import plain_policy

HOME = "/console/"
MAX_FORM_BYTES = 16_384
REASONS = {
    "signed-out": "You signed out in another tab.",
    "expired": "Your session has expired. Sign in again to go on where you were.",
    "revoked": "This key no longer has access: it was revoked, or its role or user changed.",
}
"""Why a page ended: what the form says of it."""
ATTEMPT_COOKIE = "shoal_sign_in"
ATTEMPT_PATH = "/console/oidc"
ATTEMPT_SECONDS = 600
"""How long a person may take to sign in with the identity provider."""


class SignIn:
    """The handlers that sign people in and out.

    Args:
        address: Where the platform's API answers.
        secret: Encrypts the cookies.
        sessions: Encodes the sessions.
        provider: The identity provider; None where people use an API key only.
        pages: The open pages, which end with their session.
    """

    def __init__(
        self,
        address: str,
        secret: str,
        sessions: SessionCodec,
        provider: IdentityProvider | None,
        pages: OpenPages,
    ) -> None:
        self._address, self._sessions, self._provider = address, sessions, provider
        self._pages = pages
        self._attempts = fernet(secret, b"shoal.sign-in")

    def register(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        app.get("/console/sign-in")(self.show_form)
        app.post("/console/sign-in")(self.sign_in_with_key)
        app.post("/console/sign-out")(self.sign_out)
        if self._provider is not None:
            app.get(f"{ATTEMPT_PATH}/start")(self.begin)
            app.get(f"{ATTEMPT_PATH}/callback")(self.complete)

    async def show_form(self, request: Request) -> HTMLResponse:
        """The form. `because` says why a page came here by itself."""
        reason = REASONS.get(request.query_params.get("because", ""))
        return self._form(request, after=request.query_params.get("after", HOME), reason=reason)

    async def sign_in_with_key(self, request: Request) -> Response:
        fields = await read_form(request)
        key, user, after = (fields.get(name, "").strip() for name in ("key", "user", "after"))
        try:
            session = await identify(self._address, key, user or None)
        except ShoalError as error:
            return self._form(request, after=after, user=user, error=error)
        return self._signed_in(request, session, after)

    async def begin(self, request: Request) -> Response:
        """Send the browser to the identity provider."""
        assert self._provider is not None
        after = local_path(request.query_params.get("after", HOME))[:1000]
        try:
            address, attempt = await self._provider.begin(after)
        except ShoalError as error:
            return self._form(request, after=after, error=error)
        response = RedirectResponse(address, 303)
        response.set_cookie(
            ATTEMPT_COOKIE,
            self._attempts.encrypt(orjson.dumps(asdict(attempt))).decode(),
            max_age=ATTEMPT_SECONDS,
            path=ATTEMPT_PATH,
            secure=is_secure(request),
            httponly=True,
            samesite="lax",
        )
        return response

    async def complete(self, request: Request) -> Response:
        """Take the identity provider's answer, which the browser brings."""
        assert self._provider is not None
        attempt = self._attempt(request)
        after = HOME if attempt is None else attempt.after
        try:
            if attempt is None:
                raise Unauthenticated(
                    "this sign-in was not begun in this browser, is over, or took more than"
                    f" {ATTEMPT_SECONDS // 60} minutes: begin again"
                )
            parameters = request.query_params.multi_items()
            if len(parameters) != len(dict(parameters)):
                raise Unauthenticated("the identity provider's answer repeats a parameter")
            token, seconds = await self._provider.complete(attempt, dict(parameters))
            session = await identify(self._address, token, None)
        except ShoalError as error:
            response: Response = self._form(request, after=after, error=error)
        else:
            session = replace(session, expires=time.time() + seconds)
            response = self._signed_in(request, session, after)
        response.delete_cookie(ATTEMPT_COOKIE, path=ATTEMPT_PATH)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the session; one of the identity provider is ended there as well."""
        session = self._sessions.decode(request.cookies.get(COOKIE))
        address = None
        if session is not None:
            self._pages.end(session, "signed-out")
        if session is not None and not session.is_key and self._provider is not None:
            address = await self._provider.sign_out_address()
        response: Response = RedirectResponse("/console/sign-in", 303)
        if address is not None:
            # A page, because browsers apply form-action to a form's redirects.
            page = signed_out_page(
                address, theme=_theme(request), nonce=request.scope["shoal.nonce"]
            )
            response = plain_page(request, page)
        response.delete_cookie(COOKIE, path="/console")
        return response

    def _attempt(self, request: Request) -> Attempt | None:
        try:
            cookie = request.cookies.get(ATTEMPT_COOKIE, "").encode()
            return Attempt(**orjson.loads(self._attempts.decrypt(cookie, ttl=ATTEMPT_SECONDS)))
        except (InvalidToken, TypeError, ValueError):
            return None

    def _signed_in(self, request: Request, session: Session, after: str) -> Response:
        before = self._sessions.decode(request.cookies.get(COOKIE))
        if before is not None:
            self._pages.end(before, "signed-out")
        response = RedirectResponse(local_path(after), 303)
        set_session(response, request, self._sessions, session)
        return response

    def _form(
        self,
        request: Request,
        *,
        after: str,
        user: str = "",
        error: ShoalError | None = None,
        reason: str | None = None,
    ) -> HTMLResponse:
        provider = None
        if self._provider is not None:
            start = f"{ATTEMPT_PATH}/start?{urlencode({'after': local_path(after)})}"
            provider = (self._provider.settings.label, start)
        page = sign_in_page(
            notice=reason if error is None else error.detail,
            user=user,
            after=local_path(after),
            provider=provider,
            theme=_theme(request),
            nonce=request.scope["shoal.nonce"],
        )
        return plain_page(request, page, 200 if error is None else error.status)


def plain_page(request: Request, page: str, status: int = 200) -> HTMLResponse:
    """A page that is no page of NiceGUI's."""
    policy = plain_policy(request.scope["shoal.nonce"])
    return HTMLResponse(page, status, {"Content-Security-Policy": policy})


def _theme(request: Request) -> str | None:
    return request.cookies.get("shoal_theme")


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
        return await describe_session(client, key, user)


async def describe_session(client: AsyncClient, key: str, user: str | None) -> Session:
    """A new session of a key, as the platform describes the key now."""
    me: dict[str, Any] = await client.platform.whoami()
    user, name = user or me.get("user"), me.get("name") or me["tenant"]
    return Session(key, user, me["tenant"], name, me["role"], me["rights"])


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
