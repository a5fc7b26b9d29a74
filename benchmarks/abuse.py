"""What one tenant's abuse costs another: the p95 of a quiet tenant's requests, and of
how long its events take to be handled, while another tenant abuses the platform in one
way after the other.

    python benchmarks/abuse.py [--seconds 10]

It starts a Shoal of its own with search, features, the optimizer and a plugin whose
stream fails, and runs everything twice: within the default limits, and with the abuser
limited to 50 requests a second and four at once on all capabilities together. Both
clients run on the same machine: an abuser's client takes processor time too. Two to
five minutes.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common import Connection, free_port, machine, table

HERE = Path(__file__).parents[1]
ABUSES = (
    "none",
    "request flood",
    "large bodies",
    "poison events",
    "job flood",
    "slow clients",
    "expensive calls",
)
LIMITS = {"rps": 50, "concurrency": 4}
RATE = 20
"""Requests of the quiet tenant per second, of each of three kinds in turn."""
WORDS = (HERE / "README.md").read_text("utf-8").split()
PLUGIN = """
import asyncio, time
import shoal
from fastapi import APIRouter, Depends

def routes(services):
    router = APIRouter()

    @router.get("/seen")
    async def seen(ctx: shoal.TenantContext = Depends(shoal.requires("read:own"))):
        value = await ctx.stores.online.get(("seen",))
        return {"seen": None if value is None else value.decode()}

    return router

async def handle(ctx, events):
    for event in events:
        if event.type == "abuse.poison":
            raise ValueError("poison")
        if event.type == "abuse.slow":
            await asyncio.sleep(30)
        else:
            await ctx.stores.online.set(("seen",), event.id)

async def sleep(job):
    await asyncio.sleep(1)

@shoal.hookimpl
def shoal_capabilities():
    streams = [shoal.Stream("events", ("abuse.*",), handle)]
    jobs = [shoal.Job("sleep", sleep)]
    return [shoal.Capability("abuse", "Fails.", routes=routes, streams=streams, jobs=jobs)]
"""


class Platform:
    """A Shoal of this benchmark's own."""

    def __init__(self, folder: Path) -> None:
        site, self.port = folder / "site", free_port()
        (site / "abuse-1.dist-info").mkdir(parents=True)
        (site / "abuse.py").write_text(PLUGIN)
        (site / "abuse-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: abuse\n")
        (site / "abuse-1.dist-info/entry_points.txt").write_text("[shoal]\nabuse = abuse\n")
        paths = [HERE / "platform", HERE / "plugins", site]
        self._env = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "SHOAL_DATA": str(folder / "data"),
            "SHOAL_PORT": str(self.port),
            "SHOAL_DISABLED": '["anomalies", "experiments"]',
            "HF_HUB_OFFLINE": "1",
        }

    def shoal(self, *words: str) -> str:
        command = [sys.executable, "-m", "shoal.cli.main", *words]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def create(self, tenant: str) -> str:
        """Create a tenant with data; its key."""
        key: str = json.loads(self.shoal("tenants", "create", tenant, "--json"))["key"]

        async def load_tenant() -> None:
            async with Caller(self.port, key) as caller:
                await load(caller)

        asyncio.run(load_tenant())
        return key

    def limit(self, tenant: str, limits: dict[str, float]) -> None:
        code = (
            "import json, sys; from shoal import operator_client\n"
            "with operator_client() as operator:\n"
            "    operator.platform.put_limits("
            "id=sys.argv[1], capability='*', body=json.loads(sys.argv[2]))"
        )
        command = [sys.executable, "-c", code, tenant, json.dumps(limits)]
        subprocess.run(command, env=self._env, check=True)


class Caller:
    """A tenant's connection to the platform."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key

    async def __aenter__(self) -> "Caller":
        self._http = await Connection("127.0.0.1", self.port).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        data = b"" if body is None else json.dumps(body).encode()
        return await self._http.send(self._http.request(method, path, self.key, data))

    async def must(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status < 300, (path, status, answer[:500])
        return json.loads(answer)


async def load(caller: Caller) -> None:
    """A feature view with a row, 500 items, and people with a task."""
    view = {"name": "wide", "entity": "user", "join_key": "user_id", "kind": "plain"}
    features = [{"name": f"f{n}", "dtype": "float64"} for n in range(20)]
    views = {"views": [{**view, "features": features}]}
    await caller.must("PUT", "/features/definitions", views)
    now = datetime.now(UTC).isoformat()
    row = {"user_id": "1", "event_timestamp": now, **{f"f{n}": n / 7 for n in range(20)}}
    await caller.must("POST", "/features/views/wide/rows", {"rows": [row]})
    items = [
        {
            "id": str(i),
            "board_id": "b",
            "type": "item",
            "title": " ".join(WORDS[i % 300 : i % 300 + 5]),
            "text": " ".join(WORDS[i % 200 : i % 200 + 15]),
            "updated_at": now,
        }
        for i in range(500)
    ]
    await caller.must("POST", "/search/items", items)
    for i in range(60):
        skills = {f"s{i % 7}": 4, f"s{i % 5}": 3}
        await caller.must("PUT", f"/optimizer/people/p{i}", {"skills": skills})
    task = {
        "estimated_hours": 20,
        "deadline": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
        "skills": [{"skill": f"s{n}", "level": 2} for n in range(3)],
        "team_size": 3,
    }
    await caller.must("PUT", "/optimizer/tasks/t", task)


# The quiet tenant


async def measure(port: int, key: str, seconds: float) -> dict[str, list[float]]:
    """Its latencies by kind of request, and of its events until they are handled."""
    took: dict[str, list[float]] = {"features": [], "search": [], "append": [], "handled": []}
    async with Caller(port, key) as caller, Caller(port, key) as other:
        follower = asyncio.create_task(_follow_events(other, took["handled"]))
        end, n = time.perf_counter() + seconds, 0
        names = ",".join(f"f{i}" for i in range(20))
        while time.perf_counter() < end:
            kind = ("features", "search", "append")[n % 3]
            began = time.perf_counter()
            if kind == "features":
                status, _ = await caller.call("GET", f"/features?user=1&features={names}")
            elif kind == "search":
                status, _ = await caller.call("GET", f"/search?q={WORDS[n % 97].strip('#`*|')}x")
            else:
                status, _ = await caller.call("POST", "/platform/events", {"type": "quiet"})
            assert status < 300, (kind, status)
            took[kind].append(time.perf_counter() - began)
            n += 1
            await asyncio.sleep(max(0, 1 / RATE - (time.perf_counter() - began)))
        follower.cancel()
        await asyncio.wait([follower])
    return took


async def _follow_events(caller: Caller, took: list[float]) -> None:
    for n in range(1_000_000):
        id, began = f"{began_at()}-{n}", time.perf_counter()
        await caller.must("POST", "/platform/events", {"type": "abuse.ping", "id": id})
        while (await caller.must("GET", "/abuse/seen"))["seen"] != id:
            await asyncio.sleep(0.01)
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)


def began_at() -> int:
    return time.time_ns()


# The abuser


def abuse(kind: str, port: int, key: str, stop: Any, answers: Any) -> None:
    """In a process of its own: one kind of abuse until `stop` is set."""
    counts: Counter[int] = Counter()

    async def repeat(call: Callable[[Caller, int], Awaitable[tuple[int, bytes]]]) -> None:
        n = 0
        while not stop.is_set():
            try:
                async with Caller(port, key) as caller:
                    while not stop.is_set():
                        status, _ = await call(caller, n)
                        counts[status] += 1
                        n += 1
            except (OSError, asyncio.IncompleteReadError):
                counts[0] += 1

    async def run() -> None:
        call, connections = CALLS[kind]
        await asyncio.gather(*(repeat(call) for _ in range(connections)))

    asyncio.run(_hold_open(port, key, stop) if kind == "slow clients" else run())
    answers.update({str(status): count for status, count in counts.items()})


async def _hold_open(port: int, key: str, stop: Any) -> None:
    """600 connections that send a byte a second: of their headers, or of their body."""
    head = f"POST /platform/events HTTP/1.1\r\nHost: shoal\r\nAuthorization: Bearer {key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100000\r\n"

    async def hold(start: str) -> None:
        while not stop.is_set():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(start.encode())
                while not stop.is_set() and not writer.is_closing():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(1)
                writer.close()
            except OSError:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(hold(head + ("\r\n[" if n % 2 else "X-")) for n in range(600)))


async def flood(caller: Caller, n: int) -> tuple[int, bytes]:
    return await caller.call("GET", "/features?user=1&features=f1,f2,f3")


async def send_large_body(caller: Caller, n: int) -> tuple[int, bytes]:
    events = [{"type": "large", "data": "x" * 1000}] * 8000
    return await caller.call("POST", "/platform/events", events)


async def send_poison(caller: Caller, n: int) -> tuple[int, bytes]:
    kind = "abuse.poison" if n % 2 else "abuse.slow"
    await asyncio.sleep(0.05)
    return await caller.call("POST", "/platform/events", [{"type": kind}] * 10)


async def start_job(caller: Caller, n: int) -> tuple[int, bytes]:
    return await caller.call("POST", "/platform/jobs/abuse.sleep/runs", {})


async def ask_much(caller: Caller, n: int) -> tuple[int, bytes]:
    if n % 2:
        return await caller.call("POST", "/optimizer/tasks/t/recommendation", {})
    words = "+".join(word for word in WORDS[n % 90 : n % 90 + 60] if word.isalpha())
    return await caller.call("GET", f"/search?q={words}&limit=100")


CALLS: dict[str, tuple[Callable[[Caller, int], Awaitable[tuple[int, bytes]]], int]] = {
    "request flood": (flood, 32),
    "large bodies": (send_large_body, 4),
    "poison events": (send_poison, 2),
    "job flood": (start_job, 8),
    "expensive calls": (ask_much, 8),
}
"""By kind of abuse: one call, and the number of connections that repeat it."""


def run_all(platform: Platform, keys: dict[str, str], seconds: float, title: str) -> None:
    rows = []
    asyncio.run(measure(platform.port, keys["quiet"], 3))  # warms up
    for kind in ABUSES:
        stop, answers = multiprocessing.Event(), multiprocessing.Manager().dict()
        abuser = None
        if kind != "none":
            abuser = multiprocessing.Process(
                target=abuse, args=(kind, platform.port, keys["abuser"], stop, answers), daemon=True
            )
            abuser.start()
            time.sleep(2)
        took = asyncio.run(measure(platform.port, keys["quiet"], seconds))
        stop.set()
        if abuser is not None:
            abuser.join(60)
        counts = ", ".join(f"{s}: {c}" for s, c in sorted(answers.items()))
        rows.append((kind, *(p95(times) for times in took.values()), counts or "–"))
        print(f"{title}: {kind} done", file=sys.stderr)
    head = ("abuse", "features", "search", "append event", "event handled", "the abuser's answers")
    table(f"{title}: p95 of another tenant, ms", head, rows)


def p95(times: list[float]) -> str:
    if not times:
        return "never"
    return f"{1e3 * sorted(times)[min(int(len(times) * 0.95), len(times) - 1)]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    seconds = parser.parse_args().seconds
    print(machine())

    with tempfile.TemporaryDirectory(prefix="shoal-abuse-") as folder:
        platform = Platform(Path(folder))
        try:
            platform.shoal("up", "--detach")
            quiet = platform.create("quiet")
            keys = {"quiet": quiet, "abuser": platform.create("abuser")}
            run_all(platform, keys, seconds, "Default limits")
            # Another abuser, so that nothing of the first is left in queues.
            platform.shoal("tenants", "delete", "abuser", "--yes")
            keys = {"quiet": quiet, "abuser": platform.create("limited")}
            platform.limit("limited", LIMITS)
            time.sleep(1)
            run_all(platform, keys, seconds, f"The abuser limited to {LIMITS}")
        finally:
            platform.shoal("down")


if __name__ == "__main__":
    main()
