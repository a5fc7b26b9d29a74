"""What the console tells browsers to refuse, and the requests that it refuses itself.

Every response has a Content-Security-Policy, and says that it may not be framed, that
its type is not to be guessed, and that other sites are not told its address.

A request of another site's page is refused: one with an `Origin` that is not the
console's, and one that changes something or opens a socket although `Sec-Fetch-Site`
says that another site sent it. Links from other sites work, since browsers send no
`Origin` with them.
"""

import secrets
from urllib.parse import urlsplit

from jinja2.ext import Extension
from nicegui.client import templates
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoal.contract.errors import Forbidden
from shoal.router.problems import MEDIA_TYPE, reject_websocket, respond

FOREIGN = Forbidden("this request was sent by a page of another site")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
_SAME_FOR_ALL = (
    "default-src 'none'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)


def plain_policy(nonce: str) -> str:
    """The policy of the landing page and the sign-in form."""
    return f"{_SAME_FOR_ALL}; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'"


def console_policy(nonce: str) -> str:
    """The policy of NiceGUI's pages.

    Of inline scripts only those of NiceGUI's own template run, by their nonce. NiceGUI
    needs `unsafe-eval`, because Vue compiles templates in the browser, and inline
    styles, because Quasar sets them.
    """
    return (
        f"{_SAME_FOR_ALL}; script-src 'self' 'nonce-{nonce}' 'unsafe-eval';"
        " style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:"
    )


class ScriptNonces(Extension):
    """Adds the request's nonce to the scripts that a template itself contains.

    A template's variables are filled in later, so a script in data never has it.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        nonce = 'nonce="{{ request.scope["shoal.nonce"] }}"'
        return source.replace("<script", f"<script {nonce}")


class SiteGuard:
    """ASGI middleware in front of everything that the console serves.

    Handlers find the nonce of the response's scripts in `scope["shoal.nonce"]`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        templates.env.add_extension(ScriptNonces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        nonce = scope["shoal.nonce"] = secrets.token_urlsafe(16)
        request_id = secrets.token_hex(16)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), nonce)
            await send(message)

        if not is_foreign(scope):
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await reject_websocket(scope, receive, send, FOREIGN, request_id)
        else:
            status, headers, body = respond(FOREIGN, request_id)
            start = {"type": "http.response.start", "status": status, "headers": headers}
            await send_with_headers(start)
            await send({"type": "http.response.body", "body": body})


def is_foreign(scope: Scope) -> bool:
    """Whether a page of another site made the browser send this request."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is not None:
        own = {headers.get("host"), headers.get("x-forwarded-host")} - {None}
        if urlsplit(origin).netloc not in own:  # no page can set either header
            return True
    if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
        return False
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def _add_headers(headers: MutableHeaders, nonce: str) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", console_policy(nonce))
    if headers.get("content-type", "").startswith(("text/html", MEDIA_TYPE)):
        headers.setdefault("Cache-Control", "no-store")
