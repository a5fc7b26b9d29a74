"""What the Router adds to a request, in process: an ASGI application called bare,
behind the Router, and (for comparison) behind Starlette's own AuthenticationMiddleware
with an API-key look-up in a dict. No server, no network, a real directory.

    python benchmarks/router_inprocess.py [--requests 20000]
"""

import argparse
import asyncio
import hashlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import machine, private_redis
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware

from shoal import Capability, Egress
from shoal.contract.experiments import ExperimentRecord, Variant
from shoal.router.credentials import mint_internal
from shoal.router.middleware import Router
from shoal.router.settings import RouterSettings
from shoal.stores.connections import close_connections
from shoal.tenants.directory import Directory
from shoal.tenants.records import Limits, Quota
from shoal.tenants.usage_meter import UsageMeter

SECRET = "benchmark-secret-benchmark-secret"
UNLIMITED = {"rps": 1e9, "burst": 1e9}


async def no_op(scope: Any, receive: Any, send: Any) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": b"{}"})


def scope(headers: dict[str, str], query: str = "") -> dict[str, Any]:
    every = {
        "host": "shoal",
        "accept": "*/*",
        "accept-encoding": "gzip",
        "connection": "keep-alive",
        "user-agent": "bench",
        **headers,
    }
    return {
        "type": "http",
        "method": "GET",
        "path": "/noop/x",
        "raw_path": b"/noop/x",
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in every.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def microseconds(
    app: Callable[..., Awaitable[None]], template: dict[str, Any], requests: int
) -> float:
    """The median over ten rounds of the mean CPU time of a request (which other work on
    the machine changes little).
    """
    status = 0

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    rounds = []
    for _ in range(10):
        began = time.process_time()
        for _ in range(requests // 10):
            await app(dict(template), receive, send)
        rounds.append((time.process_time() - began) / (requests // 10) * 1e6)
    assert status == 200, status
    return statistics.median(rounds)


class KeyBackend(AuthenticationBackend):
    def __init__(self, key: str) -> None:
        self.known = {hashlib.sha256(key.encode()).digest(): "acme"}

    async def authenticate(self, conn: Any) -> Any:
        token = conn.headers["authorization"].removeprefix("Bearer ")
        return AuthCredentials(["reader"]), SimpleUser(
            self.known[hashlib.sha256(token.encode()).digest()]
        )


async def measure(url: str, requests: int) -> list[tuple[str, float]]:
    directory = Directory(url)
    await directory.create_tenant("acme")
    for i in range(1000):
        await directory.create_tenant(f"other-{i}")
    _, key = await directory.create_key("acme", "editor")
    await directory.boards.replace("acme", "b1", ["ana"])
    router = Router(
        no_op,
        capability=Capability("noop", "Does nothing.", routes=Any),
        directory=directory,
        services=SimpleNamespace(egress=Egress()),
        open_stores=lambda tenant: SimpleNamespace(),
        operations=lambda name, ctx: None,
        purge_if_erased=lambda tenant: asyncio.sleep(0),
        usage=UsageMeter(directory, Path(tempfile.mkdtemp(prefix="shoal-bench-"))),
        settings=RouterSettings(limits=UNLIMITED, internal_secret=SECRET),
    )
    await router.start()
    auth = {"authorization": f"Bearer {key}"}
    rows = [
        ("bare", await microseconds(no_op, scope(auth), requests)),
        (
            "starlette AuthenticationMiddleware",
            await microseconds(
                AuthenticationMiddleware(no_op, KeyBackend(key)), scope(auth), requests
            ),
        ),
        ("Router, API key", await microseconds(router, scope(auth), requests)),
        (
            "Router, API key, tenant= in the query",
            await microseconds(router, scope(auth, "tenant=acme&user=123&features=a,b"), requests),
        ),
        (
            "Router, API key and Shoal-User",
            await microseconds(router, scope({**auth, "shoal-user": "ana"}), requests),
        ),
        (
            "Router, internal token",
            await microseconds(
                router,
                scope({"authorization": f"Bearer {mint_internal(SECRET, 'acme', ttl=600)}"}),
                requests,
            ),
        ),
    ]
    quota = Quota(requests=10**12)
    for name, limits in (
        ("limits on all capabilities", Limits(**UNLIMITED, concurrency=100)),
        ("quotas", Limits(day=quota, month=quota)),
    ):
        await directory.set_limits("acme", "*", limits)
        await router.snapshot.catch_up()
        rows.append((f"Router, API key, {name}", await microseconds(router, scope(auth), requests)))
    await directory.set_limits("acme", "*", None)
    for i in range(3):
        arms = (
            Variant(name="a", allocation=50),
            Variant(name="b", allocation=50, parameters={"x": 1}),
        )
        await directory.put_experiment(
            ExperimentRecord(
                id=f"e{i}", tenant="acme", capability="noop", status="running", variants=arms
            )
        )
    await router.snapshot.catch_up()
    rows.append(
        (
            "Router, API key and Shoal-User, in 3 experiments",
            await microseconds(router, scope({**auth, "shoal-user": "ana"}), requests),
        )
    )
    await router.snapshot.stop()  # (the account's events have nowhere to go here)
    await close_connections()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    requests = parser.parse_args().requests
    with private_redis() as port:
        rows = asyncio.run(measure(f"redis://127.0.0.1:{port}/0", requests))
    print(f"{machine()}; µs of CPU per request, median of 10 rounds of {requests // 10}")
    for name, value in rows:
        print(f"  {name:50} {value:7.1f}   +{value - rows[0][1]:.1f}")


if __name__ == "__main__":
    main()
