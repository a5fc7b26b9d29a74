"""An identity provider's JWKS endpoint over HTTPS, whose answers a test decides."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa


class JWKSServer:
    """Serves `document`, or `answer` with a status, a body and more headers.

    While `held` is clear, answers wait.
    """

    def __init__(self) -> None:
        self.document: Any = {"keys": []}
        self.answer: tuple[int, bytes, dict[bytes, bytes]] | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.fetches = 0
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.fetches += 1
        await self.held.wait()
        body = json.dumps(self.document).encode()
        status, body, headers = self.answer or (200, body, {})
        start = {"type": "http.response.start", "status": status, "headers": list(headers.items())}
        await send(start)
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def jwks_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JWKSServer]:
    """Run a server whose certificate's authority this process trusts."""
    application = JWKSServer()
    async with https_server(application, folder, monkeypatch) as address:
        application.url = f"{address}/jwks"
        try:
            yield application
        finally:
            application.held.set()


@contextlib.asynccontextmanager
async def https_server(
    application: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Serve an ASGI application over HTTPS; gives its address.

    Its certificate is of an authority of its own, which this process trusts.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
    config = uvicorn.Config(application, port=0, log_level="critical", lifespan="off")
    config.load()
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(config.ssl)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"https://localhost:{port}"
    finally:
        server.should_exit = True
        await serving


def jwk(key: Any, kid: Any = "good", **changes: Any) -> dict[str, Any]:
    """The JWK of a private key's public half; None removes a member."""
    kinds: list[tuple[Any, Any]] = [
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
    ]
    kind = next((found for base, found in kinds if isinstance(key, base)), None)
    algorithm: Any = kind or jwt.algorithms.OKPAlgorithm
    members = {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid}
    for name in ("key_ops", *(name for name, value in changes.items() if value is None)):
        members.pop(name, None)
    return members | {name: value for name, value in changes.items() if value is not None}


def private_jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    members = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key))
    members.pop("key_ops", None)
    return {**members, "kid": kid}


def secret_jwk(secret: bytes, kid: str) -> dict[str, Any]:
    return {"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode(), "kid": kid}
