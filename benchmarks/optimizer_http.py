"""One task among 1,000 people with 5 skills, over HTTP: latency of POST
/optimizer/tasks/{id}/recommendation.

python benchmarks/optimizer_http.py [--url http://127.0.0.1:8000] [--people 1000]
[--rounds 60]

Needs a running platform (`shoal up`); makes a tenant of its own and erases it.
"""

import argparse
import os
import random
import secrets
import time
from datetime import UTC, datetime, timedelta

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    rng = random.Random(1)
    tenant = f"bench-{secrets.token_hex(3)}"
    print(machine())
    with operator_client() as operator:
        operator.platform.create_tenant(id=tenant)
        try:
            key = operator.platform.create_key(id=tenant, role="editor")["key"]
            with httpx.Client(
                base_url=options.url, headers={"authorization": f"Bearer {key}"}, timeout=60
            ) as http:
                people = [
                    {
                        "id": f"p{n}", "skills": {skill: rng.randint(1, 5) for skill in rng.sample(SKILLS, 4)},
                        "workload": rng.randint(0, 90), "time_zone": rng.choice(ZONES), "cost_per_hour": rng.randint(20, 150),
                    }
                    for n in range(options.people)
                ]  # fmt: skip
                assert (
                    http.post("/optimizer/people", json=people).json()["accepted"] == options.people
                )
                deadline = (datetime.now(UTC) + timedelta(days=14)).isoformat()
                tasks = [
                    {
                        "id": f"t{n}", "estimated_hours": 60, "deadline": deadline,
                        "skills": [{"skill": skill, "level": rng.randint(2, 4)} for skill in rng.sample(SKILLS, 5)],
                    }
                    for n in range(options.rounds + 5)
                ]  # fmt: skip
                assert http.post("/optimizer/tasks", json=tasks).json()["accepted"] == len(tasks)
                took, proved = [], 0
                for n, task in enumerate(tasks):
                    began = time.perf_counter()
                    answer = http.post(f"/optimizer/tasks/{task['id']}/recommendation")
                    seconds = time.perf_counter() - began
                    answer.raise_for_status()
                    if n >= 5:
                        took.append(1000 * seconds)
                        proved += answer.json()["status"] == "optimal"
            print(
                f"one task, 5 skills, {options.people} people over HTTP: p50 {np.quantile(took, 0.5):.0f} ms, "
                f"p95 {np.quantile(took, 0.95):.0f} ms, {proved} of {len(took)} proved optimal"
            )
        finally:
            operator.platform.delete_tenant(id=tenant)


if __name__ == "__main__":
    main()
