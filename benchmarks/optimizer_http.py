"""Latency of one task's recommendation over HTTP, with 1,000 people and 5 skills.

    python benchmarks/optimizer_http.py [--url http://127.0.0.1:8000] [--people 1000]
        [--rounds 60]

Needs a running platform (`shoal up`); creates a tenant of its own and erases it.
"""

import argparse
import os
import random
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
from common import machine

from shoal import operator_client

SKILLS = [f"skill {n}" for n in range(20)]
ZONES = (
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Asia/Tokyo",
)


WARM_UP = 5


def people(count: int, rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{n}",
            "skills": {skill: rng.randint(1, 5) for skill in rng.sample(SKILLS, 4)},
            "workload": rng.randint(0, 90),
            "time_zone": rng.choice(ZONES),
            "cost_per_hour": rng.randint(20, 150),
        }
        for n in range(count)
    ]


def tasks(count: int, rng: random.Random) -> list[dict[str, Any]]:
    deadline = (datetime.now(UTC) + timedelta(days=14)).isoformat()
    return [
        {
            "id": f"t{n}",
            "estimated_hours": 60,
            "deadline": deadline,
            "skills": [
                {"skill": skill, "level": rng.randint(2, 4)} for skill in rng.sample(SKILLS, 5)
            ],
        }
        for n in range(count)
    ]


def measure(http: httpx.Client, people_count: int, rounds: int) -> None:
    rng = random.Random(1)
    sent = people(people_count, rng)
    assert http.post("/optimizer/people", json=sent).json()["accepted"] == people_count
    planned = tasks(rounds + WARM_UP, rng)
    assert http.post("/optimizer/tasks", json=planned).json()["accepted"] == len(planned)
    took, proved = [], 0
    for n, task in enumerate(planned):
        began = time.perf_counter()
        answer = http.post(f"/optimizer/tasks/{task['id']}/recommendation")
        seconds = time.perf_counter() - began
        answer.raise_for_status()
        if n >= WARM_UP:
            took.append(1000 * seconds)
            proved += answer.json()["status"] == "optimal"
    p50, p95 = np.quantile(took, 0.5), np.quantile(took, 0.95)
    print(
        f"one task, 5 skills, {people_count} people over HTTP: p50 {p50:.0f} ms, "
        f"p95 {p95:.0f} ms, {proved} of {len(took)} proved optimal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    tenant = f"bench-{secrets.token_hex(3)}"
    print(machine())
    with operator_client() as operator:
        operator.platform.create_tenant(id=tenant)
        try:
            key = operator.platform.create_key(id=tenant, role="editor")["key"]
            headers = {"authorization": f"Bearer {key}"}
            with httpx.Client(base_url=options.url, headers=headers, timeout=60) as http:
                measure(http, options.people, options.rounds)
        finally:
            operator.platform.delete_tenant(id=tenant)


if __name__ == "__main__":
    main()
