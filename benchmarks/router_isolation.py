"""One tenant floods; what does another notice? A capability that works for 2 ms behind
the Router on one uvicorn process; `globex` asks one request at a time while `acme`
sends as fast as 32 connections go: without limits, and within 100 a second.

    python benchmarks/router_isolation.py [--seconds 5]
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
from common import free_port, machine, private_redis

from shoal import Capability, Egress
from shoal.router.middleware import Router
from shoal.router.settings import RouterSettings
from shoal.stores.connections import close_connections
from shoal.tenants.directory import Directory
from shoal.tenants.records import Limits
from shoal.tenants.usage_meter import UsageMeter

UNLIMITED = {"rps": 1e9, "burst": 1e9, "concurrency": 10_000}


async def work(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for reply in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{reply}.complete"})
        return
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"{}"})


def serve(redis_url: str, port: int) -> None:
    stores = SimpleNamespace(events=SimpleNamespace(append=lambda events: asyncio.sleep(0)))
    directory = Directory(redis_url)
    router = Router(
        work,
        capability=Capability("work", "Works.", routes=Any),
        directory=directory,
        services=SimpleNamespace(egress=Egress()),
        open_stores=lambda tenant: stores,
        operations=lambda name, ctx: None,
        purge_if_erased=lambda tenant: asyncio.sleep(0),
        usage=UsageMeter(directory, Path(tempfile.mkdtemp(prefix="shoal-bench-"))),
        settings=RouterSettings(limits=Limits(**UNLIMITED)),
    )
    uvicorn.run(router, port=port, log_level="error")


def flood(port: int, key: str, stop: Any, sent: Any) -> None:
    """Over 32 connections, each asking again as soon as it has its answer."""
    request = f"GET /work HTTP/1.1\r\nhost: shoal\r\nauthorization: Bearer {key}\r\n\r\n".encode()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not stop.is_set():
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(
                int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            )
            sent[0 if head[9:12] == b"200" else 1] += 1
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(32)))

    asyncio.run(all_of_them())


def latencies(url: str, key: str, seconds: float) -> list[float]:
    found, end = [], time.perf_counter() + seconds
    with httpx.Client(headers={"authorization": f"Bearer {key}"}) as client:
        while time.perf_counter() < end:
            began = time.perf_counter()
            assert client.get(url).status_code == 200
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(0.01)
    return sorted(found)


async def companies(redis_url: str) -> dict[str, str]:
    directory = Directory(redis_url)
    keys = {}
    for name in ("acme", "globex"):
        await directory.create_tenant(name)
        _, keys[name] = await directory.create_key(name, "editor")
    await close_connections()
    return keys


async def limit(redis_url: str, limits: Limits) -> None:
    directory = Directory(redis_url)
    await directory.set_limits("acme", "work", limits)
    await close_connections()


def measure(redis_url: str, seconds: float) -> None:
    keys = asyncio.run(companies(redis_url))
    port = free_port()
    url = f"http://127.0.0.1:{port}/work"
    server = multiprocessing.Process(target=serve, args=(redis_url, port), daemon=True)
    server.start()
    while True:
        try:
            httpx.get(url)
            break
        except httpx.ConnectError:
            time.sleep(0.1)
    print(f"{machine()}; globex's latency in ms, one request at a time, {seconds:g} s")
    print(f"  {'acme':34} {'p50':>7} {'p95':>7} {'p99':>7}   acme's answers a second: 200, 429")
    for name, limits in (
        ("is quiet", None),
        ("floods, without limits", Limits(**UNLIMITED)),
        ("floods, limited to 100/s, 2 at once", Limits(rps=100, burst=100, concurrency=2)),
    ):
        stop, sent = multiprocessing.Event(), multiprocessing.Array("i", 2)
        flooder = None
        if limits is not None:
            asyncio.run(limit(redis_url, limits))
            flooder = multiprocessing.Process(
                target=flood, args=(port, keys["acme"], stop, sent), daemon=True
            )
            flooder.start()
            while sum(sent) < 200:
                time.sleep(0.1)
            time.sleep(1)
        before, began = list(sent), time.perf_counter()
        found = latencies(url, keys["globex"], seconds)
        rates = [
            (after - b) / (time.perf_counter() - began)
            for after, b in zip(sent, before, strict=True)
        ]
        stop.set()
        if flooder is not None:
            flooder.join()
        p50, p95, p99 = (statistics.quantiles(found, n=100)[q - 1] for q in (50, 95, 99))
        print(f"  {name:34} {p50:7.1f} {p95:7.1f} {p99:7.1f}   {rates[0]:.0f}, {rates[1]:.0f}")
    server.terminate()
    server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    with private_redis() as port:
        measure(f"redis://127.0.0.1:{port}/0", seconds)


if __name__ == "__main__":
    main()
