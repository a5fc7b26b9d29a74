"""`GET /platform/usage`, quotas over HTTP, and what each capability counts."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from shoal import Forbidden, Invalid, NotFound, QuotaExceeded
from shoal.tenants.records import PLATFORM
from shoal.testing.app import CapabilityApp

Serve = Callable[..., CapabilityApp]


@pytest.fixture(scope="module")
def app(shoal_app: Serve) -> CapabilityApp:
    return shoal_app("experiments", "anomalies", "optimizer")


@pytest.fixture
def operator(app: CapabilityApp) -> Any:
    with app.client(PLATFORM, "admin") as client:
        yield client


def usage(app: CapabilityApp, tenant: str, **query: Any) -> dict[str, dict[str, int]]:
    """What a tenant sees of its usage today, by capability."""
    app.run(app.platform.usage.flush())
    with app.client(tenant, "admin") as client:
        [found] = client.platform.list_usage(**query)["tenants"]
    assert found["tenant"] == tenant
    today = datetime.now(UTC).date().isoformat()
    return {row.pop("capability"): row for row in found["usage"] if row.pop("period") == today}


def test_each_capability_counts_what_it_accepts(app: CapabilityApp) -> None:
    with app.client("counted") as client:
        client.platform.append_events(body=[{"type": "x"}, {"type": "x"}, {"no": "type"}])
        point = {"metric": "m", "time": "2026-11-28T00:00:00Z", "value": 1}
        client.anomalies.add_metrics(body=[point] * 4)
        outcome = {"people": ["a", "b"], "estimated_hours": 1, "actual_hours": 1}
        client.optimizer.add_outcomes(body=[{**outcome, "finished_at": point["time"]}])
    found = usage(app, "counted")
    assert found["platform"] == {"requests": 1, "events": 2}
    assert found["anomalies"] == {"requests": 1, "events": 4}
    assert found["optimizer"] == {"requests": 1, "events": 1}


def test_a_tenant_sees_its_own_usage_alone(app: CapabilityApp, operator: Any) -> None:
    for tenant in ("own", "foreign"):
        with app.client(tenant) as client:
            client.platform.list_capabilities()
    assert usage(app, "own")["platform"]["requests"] == 1
    with app.client("own") as client:
        assert [t["tenant"] for t in client.platform.list_usage()["tenants"]] == ["own"]
        with pytest.raises(NotFound):
            client.platform.get_usage(id="foreign")
    with app.client("own", "reader", "ana") as client, pytest.raises(Forbidden):
        client.platform.list_usage()
    [row] = operator.platform.get_usage(id="foreign")["usage"]
    assert (row["capability"], row["requests"]) == ("platform", 1)


def test_the_operator_sees_all_tenants_in_pages(app: CapabilityApp, operator: Any) -> None:
    for tenant in ("page-a", "page-b", "page-c"):
        app.key(tenant)
    seen, cursor = [], None
    while True:
        page = operator.platform.list_usage(limit=2, cursor=cursor, by="month")
        assert len(page["tenants"]) <= 2
        seen += [one["tenant"] for one in page["tenants"]]
        if (cursor := page["cursor"]) is None:
            break
    assert seen == sorted(seen)
    assert {"page-a", "page-b", "page-c"} <= set(seen)


def test_only_kept_periods_are_answered(app: CapabilityApp, operator: Any) -> None:
    app.key("kept")
    for query in (
        {"from": "2026-01-01", "to": "2026-11-28"},
        {"from": "2026-11-28", "to": "2026-11-27"},
        {"from": "0001-01-01", "to": "9999-12-31", "by": "month"},
        {"by": "year"},
    ):
        with pytest.raises(Invalid):
            operator.platform.get_usage(id="kept", **query)


def test_quotas_refuse_and_are_shown(app: CapabilityApp, operator: Any) -> None:
    app.key("limited")
    quotas = {"day": {"events": 3}, "storage_bytes": 10**9}
    operator.platform.put_limits(id="limited", capability="*", body=quotas)
    with app.client("limited") as client:
        client.platform.append_events(body=[{"type": "x"}] * 2)
        with pytest.raises(QuotaExceeded, match="2 are used, and this request needs 2 more") as got:
            client.platform.append_events(body=[{"type": "x"}] * 2)
        assert (got.value.quota["meter"], got.value.quota["period"]) == ("events", "day")
        assert got.value.retry_after and got.value.request_id
        client.platform.append_events(body=[{"type": "x"}])
        app.run(app.platform.usage.flush())
        [found] = client.platform.list_usage()["tenants"]
    assert [(q["meter"], q["used"], q["limit"]) for q in found["quotas"]] == [
        ("events", 3, 3),
        ("storage_bytes", 0, 10**9),
    ]
    assert [row["events"] for row in found["usage"]] == [3]


def test_storage_is_a_quota_of_all_capabilities_only(app: CapabilityApp, operator: Any) -> None:
    app.key("stored")
    with pytest.raises(Invalid, match="all capabilities together"):
        operator.platform.put_limits(id="stored", capability="anomalies", body={"storage_bytes": 1})


@pytest.mark.parametrize("body", [{"day": {"items": -1}}, {"day": {"hits": 1}}, {"day": 5}])
def test_invalid_quotas_are_422(app: CapabilityApp, body: Any) -> None:
    app.key("invalid")
    response = httpx.put(
        f"{app.address}/platform/tenants/invalid/limits/*",
        json=body,
        headers={"authorization": f"Bearer {app.key(PLATFORM, 'admin')}"},
    )
    assert response.status_code == 422
