"""The stream: events posted at a steady rate, a tenth of them duplicates and all out of
order, against a running Shoal.

shoal up --detach && python benchmarks/features_stream.py [--rate 2000 --seconds 20
--users 500]

Measures the rate sustained, the time from an event's acceptance to its being served
(probes at 10 Hz), and compares every user's count with one made by hand. Afterwards the
consistency job computes a sample again from the log.
"""

import argparse
import asyncio
import os
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson
from common import Connection, machine, remove, spread, table

from shoal import operator_client


class Feed(NamedTuple):
    """How the events were posted: batch size, seconds per request, seconds late."""

    size: int
    accepted: list[float]
    behind: float


def make_events(rate: int, seconds: int, users: int) -> tuple[list[dict], Counter]:
    """Events as they are sent, a tenth of them duplicates, and the count per user."""
    draw, start = random.Random(0), datetime.now(UTC)
    events: list[dict] = []
    truth: Counter = Counter()
    for n in range(rate * seconds):
        if events and draw.random() < 0.1:
            events.append(draw.choice(events[-1000:]))
            continue
        user = f"u{draw.randrange(users)}"
        truth[user] += 1
        at = start - timedelta(seconds=draw.random() * 200)
        events.append(make_event(f"e{n}", at, {"user_id": user, "board_id": f"b{n % 40}"}))
    return events, truth


def make_event(event_id: str, at: datetime, data: dict) -> dict:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "bench",
        "type": "item.viewed",
        "time": at.isoformat(),
        "data": data,
    }


async def feed(host: str, port: int, key: str, events: list[dict], rate: int) -> Feed:
    """Post the events at a steady rate."""
    size = max(rate // 20, 1)
    bodies = [orjson.dumps(events[i : i + size]) for i in range(0, len(events), size)]
    accepted: list[float] = []
    behind = 0.0
    async with Connection(host, port) as http:
        began = time.perf_counter()
        for n, body in enumerate(bodies):
            wait = began + n * size / rate - time.perf_counter()
            behind = max(behind, -wait)
            await asyncio.sleep(max(wait, 0))
            sent = time.perf_counter()
            request = http.request("POST", "/platform/events", key, body)
            status, answer = await http.send(request)
            assert status == 202, answer
            accepted.append(time.perf_counter() - sent)
    return Feed(size, accepted, behind)


async def probe(host: str, port: int, key: str, seconds: int) -> list[float]:
    """Seconds from an event's acceptance to its being served, ten times a second."""
    lags: list[float] = []
    async with Connection(host, port) as http:
        for n in range(seconds * 10):
            began, user = time.perf_counter(), f"probe{n}"
            event = make_event(f"p{n}", datetime.now(UTC), {"user_id": user})
            await http.send(http.request("POST", "/platform/events", key, orjson.dumps(event)))
            done = time.perf_counter()
            request = http.request("GET", f"/features?user={user}&features=actions_5min", key)
            while orjson.loads((await http.send(request))[1])["features"]["actions_5min"] != 1:
                if time.perf_counter() - done > 30:
                    break
                await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - done)
            await asyncio.sleep(max(0.1 - (time.perf_counter() - began), 0))
    return lags


async def run(host: str, port: int, key: str, rate: int, seconds: int, users: int) -> None:
    events, truth = make_events(rate, seconds, users)
    began = time.perf_counter()
    fed, lags = await asyncio.gather(
        feed(host, port, key, events, rate), probe(host, port, key, seconds)
    )
    took = time.perf_counter() - began
    counted: dict[str, int] = {}
    async with Connection(host, port) as http:
        for _ in range(120):
            counted = await fetch_counts(http, key, sorted(truth))
            if counted == dict(truth):
                break
            await asyncio.sleep(0.5)
    drained = time.perf_counter() - began - took
    wrong = sum(counted.get(u) != n for u, n in truth.items())
    table(
        f"{len(events):,} events, {len(events) - sum(truth.values()):,} of them duplicates,"
        f" out of order within 200 s, {users} users",
        ("measure", "value"),
        [
            ("events a second, sent", f"{rate:,}"),
            ("events a second, accepted", f"{len(events) / took:,.0f}"),
            ("furthest behind schedule, s", f"{fed.behind:.2f}"),
            (f"POST of {fed.size} events, ms: p50, p95, p99", " ".join(spread(fed.accepted))),
            ("accepted → served, ms: p50, p95, p99", " ".join(spread(lags))),
            ("until all was served after the last, s", f"{drained:.1f}"),
            ("users whose count is wrong", f"{wrong} of {len(truth)}"),
        ],
    )


async def fetch_counts(http: Connection, key: str, users: list[str]) -> dict[str, int]:
    found = {}
    for i in range(0, len(users), 500):
        body = orjson.dumps({"entity": "user", "ids": users[i : i + 500], "features": ["actions"]})
        answer = orjson.loads(
            (await http.send(http.request("POST", "/features/batch", key, body)))[1]
        )
        found |= {r["user_id"]: r["features"]["actions"] for r in answer["results"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--users", type=int, default=500)
    arguments = parser.parse_args()
    host, port = arguments.url.split("//")[1].split(":")
    print(machine())
    tenant = f"bench-stream-{os.getpid()}"
    with operator_client() as operator:
        operator.platform.create_tenant(id=tenant)
        try:
            key = operator.platform.create_key(id=tenant, role="editor")["key"]
            asyncio.run(
                run(host, int(port), key, arguments.rate, arguments.seconds, arguments.users)
            )
            with operator_client(tenant) as mine:
                found = mine.platform.run_job(
                    name="features.consistency", arguments={"sample": arguments.users}
                )
                while found["state"] in ("queued", "running"):
                    time.sleep(0.5)
                    found = mine.platform.get_run(id=found["id"])
            result = found["result"] or {"checked": 0, "mismatches": [found["error"]]}
            print(
                f"\nconsistency job: {result['checked']:,} values computed again from the log,"
                f" {len(result['mismatches'])} mismatches"
            )
        finally:
            remove(operator, tenant)


if __name__ == "__main__":
    main()
