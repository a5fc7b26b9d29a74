"""Usage and quotas through the Router: what is counted, refused, and shown."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal.router.credentials import mint_internal
from shoal.tenants.records import Limits
from shoal.tenants.usage_ledger import today

from ..conftest import SECRET, World, problem

pytestmark = pytest.mark.anyio


async def requests_of(world: World, tenant: str = "acme") -> int:
    await world.usage.flush()
    found = await world.usage.ledger.read(tenant, [today()])
    return sum(used.counts.get("requests", 0) for used in found)


async def test_answered_requests_are_counted_before_their_answer(world: World) -> None:
    for path, status in (("/who", 200), ("/items/x", 404), ("/slow?seconds=x", 422)):
        assert (await world.get(path)).status_code == status
    assert await requests_of(world) == 3


async def test_failures_and_refusals_are_not_counted(world: World) -> None:
    assert (await world.get("/boom")).status_code == 500
    assert (await world.get("/who", key="wrong")).status_code == 401
    internal = mint_internal(SECRET, "acme", ttl=60)
    assert (await world.get("/who", key=internal)).status_code == 200
    await world.directory.set_limits("acme", "greeting", Limits(rps=0.001, burst=1))
    await world.router.snapshot.catch_up()
    assert {(await world.get("/who")).status_code for _ in range(3)} == {429, 200}
    assert await requests_of(world) == 1


async def test_a_used_up_quota_is_a_problem_that_says_so(world: World) -> None:
    limits = Limits.model_validate({"day": {"requests": 2}})
    await world.directory.set_limits("acme", "*", limits)
    await world.router.snapshot.catch_up()
    statuses = [(await world.get("/who")).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    response = await world.get("/who")
    body = problem(response, 429)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    resets = midnight + timedelta(days=1)
    assert body["title"] == "Quota exceeded"
    assert body["quota"] == {
        "meter": "requests",
        "period": "day",
        "capability": "*",
        "used": 2,
        "limit": 2,
        "resets": resets.isoformat(),
    }
    seconds = (resets - datetime.now(UTC)).total_seconds()
    assert 0 <= int(response.headers["retry-after"]) - seconds <= 60
    assert (await world.get("/who", "globex-editor")).status_code == 200
    assert await requests_of(world) == 2


async def test_other_replicas_usage_is_known_at_the_first_request(
    new_world: Callable[..., Any], world: World
) -> None:
    limits = Limits.model_validate({"month": {"requests": 3}})
    await world.directory.set_limits("acme", "greeting", limits)
    await world.router.snapshot.catch_up()
    for _ in range(3):
        assert (await world.get("/who")).status_code == 200
    await world.usage.flush()
    other = world.new_router()
    await other.start()
    async with world.connect(other) as client:
        headers = {"authorization": f"Bearer {world.keys['acme-editor']}"}
        problem(await client.get("/who", headers=headers), 429)
    await other.stop()


async def test_quotas_of_zero_admit_nothing(world: World) -> None:
    await world.directory.set_limits("acme", "*", Limits.model_validate({"day": {"requests": 0}}))
    await world.router.snapshot.catch_up()
    assert "none are left" in problem(await world.get("/who"), 429)["detail"]
