"""Latency of a search over HTTP at one connection, 10,000 items of one tenant, the
embedding of the query included (none is asked twice).

Against a running Shoal: python benchmarks/search_latency.py [--url
http://127.0.0.1:8000] [--items 10000] [--queries 300] Beside the search itself: its
time inside the replica, the embedding of one text alone, and the same searches on one
board of twenty.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from common import machine

from shoal import Client, InternalError, NotFound, operator_client

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


def row(name: str, times: list[float], wanted: str = "") -> None:
    ordered = sorted(times)
    p = [ordered[min(int(len(ordered) * q), len(ordered) - 1)] for q in (0.95, 0.99)]
    print(f"{name:44}{statistics.median(times):8.1f}{p[0]:8.1f}{p[1]:8.1f}   {wanted}")


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
    given = parser.parse_args()
    with operator_client() as operator:
        erase(operator, TENANT)
        operator.platform.create_tenant(body={"id": TENANT, "name": "Latency"})
        try:
            key = operator.platform.create_key(id=TENANT, body={"role": "editor"})["key"]
            with Client(given.url, key) as client:
                rows, began = items(given.items), time.perf_counter()
                for start in range(0, len(rows), 500):
                    answer = client.search.add_items(body=rows[start : start + 500])
                    assert not answer["rejected"], answer["rejected"][:3]
                took = time.perf_counter() - began
            time.sleep(5)  # until the last rows are flushed
            print(machine())
            print(
                f"{given.items:,} items, loaded over HTTP in {took:.0f} s "
                f"({given.items / took:.0f}/s)"
            )
            inside: list[float] = []
            with httpx.Client(
                base_url=given.url, headers={"authorization": f"Bearer {key}"}, timeout=30
            ) as http:

                def search(text: str, **wanted: Any) -> None:
                    answer = http.get("/search", params={"q": text, **wanted})
                    answer.raise_for_status()
                    inside.append(answer.json()["took_ms"])

                def embed(text: str) -> None:
                    http.post("/search/embed", json={"texts": [text]}).raise_for_status()

                texts = queries(given.queries)
                print(f"{'milliseconds':44}{'p50':>8}{'p95':>8}{'p99':>8}")
                row("search over HTTP", timed(search, texts), "wanted: p50 < 25, p95 < 50")
                row("  of it in the replica", inside[-len(texts) :])
                row(
                    "the same on one board of twenty",
                    timed(lambda text: search(text, board="board-7"), queries(given.queries)),
                )
                row(
                    "the same query again (vector remembered)",
                    timed(search, [texts[0]] * given.queries),
                )
                row("one text to a vector, over HTTP", timed(embed, texts))
        finally:
            erase(operator, TENANT)


if __name__ == "__main__":
    main()
