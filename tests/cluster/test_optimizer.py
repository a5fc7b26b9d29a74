"""The optimizer on Ray: solving in its backend, from HTTP and from the Ray client."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal import Client

pytestmark = pytest.mark.cluster
DEADLINE = (datetime.now(UTC) + timedelta(days=21)).isoformat()


def test_a_plan_respects_an_accepted_recommendation(
    platform: Any, tenants: Callable[[], str]
) -> None:
    tenant = tenants()
    with platform.client(tenant) as http, Client(platform.ray, platform.key(tenant)) as ray:
        for id, workload in (("ana", 20), ("bo", 40)):
            http.optimizer.put_person(
                id=id, body={"skills": {"Machine Learning": 4}, "workload": workload}
            )
        for id in ("t", "u"):
            http.optimizer.put_task(
                id=id,
                body={
                    "estimated_hours": 10,
                    "deadline": DEADLINE,
                    "skills": ["ML"],
                    "team_size": 1,
                },
            )
        answer = ray.optimizer.recommend(id="t")
        assert answer["status"] == "optimal" and answer["team"] == ["ana"]
        assert http.optimizer.accept(id=answer["id"])["state"] == "accepted"
        plan = http.optimizer.plan(body={"time_limit": 5})
        assert plan["status"] == "optimal" and [row["task"] for row in plan["assignments"]] == ["u"]
