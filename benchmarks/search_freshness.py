"""Freshness of search: changes of items at a steady rate, and the time until a search
finds one.

shoal up --detach && python benchmarks/search_freshness.py [--rate 200 --seconds 30
--way events|items]

Half of the changes are new items, half are changes of earlier ones, short texts. They
come as events, 20 times a second, or as requests of one item each. Five times a second
a probe comes the same way; it is found once a search for its word has it first.
"""

import argparse
import asyncio
import os
import random
import time
from datetime import UTC, datetime

import orjson
from common import Connection, machine, remove, spread, table
from search_bulk import WORDS

from shoal import operator_client

BATCHES = 20
"""Requests with events a second."""
PROBES = 5
"""A second."""


def make_item(draw: random.Random, id: str, word: str = "") -> dict:
    return {
        "id": id,
        "board_id": f"b{draw.randrange(20)}",
        "type": "item",
        "title": " ".join(draw.choices(WORDS, k=4)),
        "text": f"{' '.join(draw.choices(WORDS, k=9))} {word}",
        "updated_at": datetime.now(UTC).isoformat(),
    }


async def send(http: Connection, key: str, way: str, items: list[dict]) -> None:
    """Send items as events in one request, or in requests of their own."""
    if way == "events":
        events = [
            {
                "specversion": "1.0",
                "id": f"{item['id']} {item['updated_at']}",
                "source": "bench",
                "type": "item.updated",
                "data": item,
            }
            for item in items
        ]
        status, answer = await http.send(
            http.request("POST", "/platform/events", key, orjson.dumps(events))
        )
        assert status == 202, answer
        return
    for item in items:
        request = http.request("POST", "/search/items", key, orjson.dumps(item))
        status, answer = await http.send(request)
        assert status == 200, answer


async def feed(host: str, port: int, key: str, given: argparse.Namespace) -> float:
    """Send the changes; how far behind the schedule, at most."""
    draw, behind = random.Random(0), 0.0
    size = max(given.rate // BATCHES, 1)
    lanes = [asyncio.Queue[list[dict]]() for _ in range(8)]

    async def work(queue: asyncio.Queue[list[dict]]) -> None:
        async with Connection(host, port) as http:
            while items := await queue.get():
                await send(http, key, given.way, items)

    workers = [asyncio.create_task(work(queue)) for queue in lanes]
    began, known = time.perf_counter(), 1
    for n in range(given.seconds * given.rate // size):
        wait = began + n * size / given.rate - time.perf_counter()
        behind = max(behind, -wait)
        await asyncio.sleep(max(wait, 0))
        ids = []
        for _ in range(size):
            known += draw.random() < 0.5
            ids.append(known if draw.random() < 0.5 else draw.randrange(known))
        lanes[n % len(lanes)].put_nowait([make_item(draw, str(id)) for id in dict.fromkeys(ids)])
    for queue in lanes:
        queue.put_nowait([])
    await asyncio.gather(*workers)
    return max(behind, time.perf_counter() - began - given.seconds)


async def probe(host: str, port: int, key: str, given: argparse.Namespace) -> list[float]:
    """Seconds from a probe's acceptance to its being found."""
    draw, tasks = random.Random(1), list[asyncio.Task[float]]()

    async def find(n: int) -> float:
        word = f"probe{n}x{n * 7919 % 1009}"
        async with Connection(host, port) as http:
            await send(http, key, given.way, [make_item(draw, f"p{n}", word)])
            accepted = time.perf_counter()
            while time.perf_counter() - accepted < 30:
                status, answer = await http.send(
                    http.request("GET", f"/search?q={word}&limit=1", key)
                )
                hits = orjson.loads(answer)["hits"] if status == 200 else []
                if hits and hits[0]["id"] == f"p{n}":
                    break
                await asyncio.sleep(0.02)
            return time.perf_counter() - accepted

    began = time.perf_counter()
    for n in range(given.seconds * PROBES):
        await asyncio.sleep(max(began + n / PROBES - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(find(n)))
    return await asyncio.gather(*tasks)


async def run(host: str, port: int, key: str, given: argparse.Namespace) -> None:
    draw = random.Random(2)
    async with Connection(host, port) as http:  # the collection is there, the model is loaded
        await send(http, key, "items", [make_item(draw, "0")])
        await http.send(http.request("GET", "/search?q=first", key))
    behind, lags = await asyncio.gather(feed(host, port, key, given), probe(host, port, key, given))
    table(
        f"{given.rate} changes a second as {given.way}, for {given.seconds} s",
        ("measure", "value"),
        [
            ("accepted → found, ms: p50, p95, p99", " ".join(spread(lags))),
            ("furthest behind schedule, s", f"{behind:.2f}"),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--way", choices=("events", "items"), default="events")
    given = parser.parse_args()
    host, port = given.url.split("//")[1].split(":")
    print(machine())
    tenant = f"bench-fresh-{os.getpid()}"
    with operator_client() as operator:
        operator.platform.create_tenant(id=tenant)
        try:
            key = operator.platform.create_key(id=tenant, role="editor")["key"]
            asyncio.run(run(host, int(port), key, given))
        finally:
            remove(operator, tenant)


if __name__ == "__main__":
    main()
