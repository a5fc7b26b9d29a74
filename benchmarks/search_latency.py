"""Latency of a search over HTTP at one connection, the embedding of the query included
(none is asked twice).

    python benchmarks/search_latency.py [--url http://127.0.0.1:8000] [--items 10000]
        [--tenants 1] [--queries 300]

Against a running Shoal with the embedded vectors store, on this machine: more tenants
are copies of the first one's folder, and each question goes to the next tenant. Beside
the search itself: its time inside the replica, the same on one board of twenty,
suggestions, and the embedding of one text alone.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from common import machine

from shoal import Client, InternalError, NotFound, operator_client
from shoal.runtime.operator_client import running_config

TENANT = "search-latency"
PARTS = {
    "verb": [
        "review",
        "fix",
        "plan",
        "draft",
        "ship",
        "test",
        "design",
        "write",
        "measure",
        "migrate",
        "clean",
        "document",
        "approve",
        "schedule",
        "archive",
    ],
    "thing": [
        "invoice",
        "login",
        "roadmap",
        "onboarding",
        "dashboard",
        "contract",
        "budget",
        "newsletter",
        "survey",
        "release",
        "backup",
        "payroll",
        "report",
        "homepage",
        "pricing",
        "checkout",
        "warehouse",
        "forecast",
        "interview",
        "policy",
    ],
    "why": [
        "customers complain about waiting",
        "the auditor asked for it",
        "sales promised it for the fair",
        "it broke twice last week",
        "the supplier changed the interface",
        "we lose orders at night",
        "nobody knows who owns it",
        "the old tool is switched off",
        "legal wants a second signature",
        "mobile users cannot find it",
    ],
    "who": [
        "finance",
        "marketing",
        "support",
        "engineering",
        "legal",
        "operations",
        "sales",
        "people",
        "design",
        "security",
    ],
    "how": [
        "with a checklist",
        "before the end of the quarter",
        "in two steps",
        "together with the agency",
        "without downtime",
        "for the northern region",
        "on the new template",
        "after the training",
        "within the agreed hours",
        "by hand until it is automated",
    ],
}


def sentences(seed: int) -> Iterator[tuple[str, str]]:
    """(title, text) without end."""
    rng = random.Random(seed)
    while True:
        p = {name: rng.choice(words) for name, words in PARTS.items()}
        other = {name: rng.choice(words) for name, words in PARTS.items()}
        yield (
            f"{p['verb'].capitalize()} the {p['thing']} {rng.randrange(1000)}",
            f"{p['why'].capitalize()}, so {p['who']} should {p['verb']} the {p['thing']} "
            f"{p['how']}. "
            f"See also what {other['who']} did about the {other['thing']} {other['how']}.",
        )


def items(count: int) -> list[dict[str, Any]]:
    made, now = sentences(1), datetime.now(UTC)
    rows = []
    for i in range(count):
        title, text = next(made)
        rows.append(
            {
                "id": f"item-{i}",
                "board_id": f"board-{i % 20}",
                "type": ("item", "update", "doc", "file")[i % 4],
                "title": title,
                "text": text,
                "updated_at": (now - timedelta(hours=i % 2000)).isoformat(),
            }
        )
    return rows


def queries(count: int) -> list[str]:
    """Others in every run: a replica remembers the vectors of the latest."""
    made = sentences(random.SystemRandom().randrange(2**32))
    return [
        f"{title.lower()} because {text.split(',')[0].lower()}"
        for title, text in (next(made) for _ in range(count))
    ]


def timed(call: Callable[[str], Any], texts: list[str]) -> list[float]:
    for text in texts[:20]:
        call(text + " again")
    times = []
    for text in texts:
        began = time.perf_counter()
        call(text)
        times.append((time.perf_counter() - began) * 1000)
    return times


def row(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p = [ordered[min(int(len(ordered) * q), len(ordered) - 1)] for q in (0.95, 0.99)]
    print(f"{name:44}{statistics.median(times):8.1f}{p[0]:8.1f}{p[1]:8.1f}")


def copy_tenants(operator: Client, count: int) -> list[str]:
    """Keys of `count` tenants with the items of the first: its folder of the embedded
    vectors store is copied, so that nothing is embedded again.
    """
    folder = Path(running_config().stores.vectors)
    keys = []
    for n in range(count):
        tenant = f"{TENANT}-{n}"
        erase(operator, tenant)
        operator.platform.create_tenant(body={"id": tenant, "name": "Latency"})
        shutil.copytree(folder / TENANT, folder / tenant, dirs_exist_ok=True)
        keys.append(operator.platform.create_key(id=tenant, body={"role": "editor"})["key"])
    return keys


def load(url: str, key: str, count: int) -> None:
    rows, began = items(count), time.perf_counter()
    with Client(url, key, timeout=120) as client:
        for start in range(0, len(rows), 500):
            answer = client.search.add_items(body=rows[start : start + 500])
            assert not answer["rejected"], answer["rejected"][:3]
    took = time.perf_counter() - began
    print(f"{count:,} items, loaded over HTTP in {took:.0f} s ({count / took:.0f}/s)")


class Asker:
    """Asks over one kept-alive connection, each question of the next tenant."""

    def __init__(self, http: httpx.Client, keys: list[str]) -> None:
        self.http, self.inside = http, list[float]()
        self._headers = itertools.cycle([{"authorization": f"Bearer {key}"} for key in keys])

    def search(self, text: str, **wanted: Any) -> None:
        params = {"q": text, **wanted}
        answer = self.http.get("/search", params=params, headers=next(self._headers))
        answer.raise_for_status()
        self.inside.append(answer.json()["took_ms"])

    def suggest(self, text: str) -> None:
        """What is asked for while the first words are typed."""
        params, headers = {"q": text[:12]}, next(self._headers)
        self.http.get("/search/suggest", params=params, headers=headers).raise_for_status()

    def embed(self, text: str) -> None:
        body, headers = {"texts": [text]}, next(self._headers)
        self.http.post("/search/embed", json=body, headers=headers).raise_for_status()


def measure(ask: Asker, count: int) -> None:
    texts = queries(count)
    print(f"{'milliseconds':44}{'p50':>8}{'p95':>8}{'p99':>8}")
    row("search over HTTP", timed(ask.search, texts))
    row("  of it in the replica", ask.inside[-count:])
    row(
        "the same on one board of twenty",
        timed(lambda text: ask.search(text, board="board-7"), queries(count)),
    )
    row("the same query again (vector remembered)", timed(ask.search, [texts[0]] * count))
    row("suggestions for twelve letters", timed(ask.suggest, queries(count)))
    row("one text to a vector, over HTTP", timed(ask.embed, texts))


def erase(operator: Client, tenant: str) -> None:
    """Twice where something was still being written for it."""
    with suppress(NotFound):
        try:
            operator.platform.delete_tenant(id=tenant)
        except InternalError:
            time.sleep(2)
            operator.platform.delete_tenant(id=tenant)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--tenants", type=int, default=1, help="with as many items each")
    given = parser.parse_args()
    with operator_client() as operator:
        erase(operator, TENANT)
        operator.platform.create_tenant(body={"id": TENANT, "name": "Latency"})
        try:
            keys = [operator.platform.create_key(id=TENANT, body={"role": "editor"})["key"]]
            print(machine())
            load(given.url, keys[0], given.items)
            time.sleep(5)  # until the index has the last rows
            keys += copy_tenants(operator, given.tenants - 1)
            with httpx.Client(base_url=given.url, timeout=30) as http:
                measure(Asker(http, keys), given.queries)
        finally:
            for tenant in (TENANT, *(f"{TENANT}-{n}" for n in range(given.tenants - 1))):
                erase(operator, tenant)


if __name__ == "__main__":
    main()
