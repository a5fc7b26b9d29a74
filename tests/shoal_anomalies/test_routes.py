import json
import math
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from shoal import Role, TenantContext
from shoal.contract.rights import SERVICE_RIGHTS
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights
from shoal_anomalies import AnomalyParameters, config_routes, jobs, keys, recent_points, study
from shoal_anomalies.points import series_id
from shoal_anomalies.routes import routes
from shoal_anomalies.stream_processor import StreamProcessor

from ..success_bodies import CheckedApplication
from .conftest import DefaultServices

pytestmark = pytest.mark.anyio


@cache
def document():
    app = FastAPI()
    app.include_router(routes(DefaultServices()), prefix="/anomalies")
    return app.openapi()


def serve(
    ctx: TenantContext, role: Role = Role.editor, user: str | None = "ana"
) -> httpx.AsyncClient:
    router = routes(ctx.services)
    enforce_rights(router)
    app = FastAPI()
    app.include_router(router, prefix="/anomalies")
    install_problem_handlers(app)
    context = TenantContext(
        ctx.tenant,
        role,
        SERVICE_RIGHTS[role],
        user,
        None,
        "r1",
        ctx.stores,
        ctx.services,
        ctx.resolve,
        ctx.operations,
    )

    checked = CheckedApplication(app, document())

    async def behind_the_router(scope, receive, send):
        await checked(scope | {"shoal.context": context}, receive, send)

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(behind_the_router),
        base_url="http://shoal/anomalies",
        follow_redirects=True,
    )


@pytest.fixture
async def http(ctx):
    async with serve(ctx) as client:
        yield client


def at(**ago):
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


def points(values, metric="error_rate", minutes_ago=0, **rest):
    end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    n = len(values)
    return [
        {
            "metric": metric,
            "time": (end - timedelta(minutes=n - 1 - i)).isoformat(),
            "value": float(v),
            **rest,
        }
        for i, v in enumerate(values)
    ]


async def follow(ctx):
    """What the stream does: take all events of the log in."""
    processor = StreamProcessor()
    processor.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    await processor.handle(
        ctx, [event async for _, event in ctx.stores.events.read(types=("metric",))]
    )


@pytest.fixture
async def incident(ctx, http):
    values = [*(0.01 + 0.001 * np.random.default_rng(0).random(200)), 0.4, 0.5]
    assert (await http.post("/metrics", json=points(values))).json() == {
        "accepted": 202,
        "rejected": [],
    }
    await follow(ctx)
    return http


async def test_points_are_returned_as_a_series_with_scores(incident):
    answer = (await incident.get("/series", params={"metric": "error_rate"})).json()
    assert (
        len(answer["times"])
        == len(answer["values"])
        == len(answer["scores"])
        == len(answer["expected"])
        == 202
    )
    assert (
        answer["values"][-1] == 0.5
        and answer["scores"][-2] >= 0.5
        and answer["expected"][0] is None
    )


async def test_a_series_combines_archived_and_recent_points(ctx, incident):
    await jobs.archive_new_points(ctx)
    await ctx.stores.online.set(keys.recent_points(series_id("error_rate", {})), b"")
    await incident.post("/metrics", json=points([0.01, 0.01], minutes_ago=-2))
    await follow(ctx)
    answer = (await incident.get("/series", params={"metric": "error_rate"})).json()
    assert len(answer["times"]) == len(set(answer["times"])) == 204


async def test_a_late_point_hides_no_archived_points(ctx, incident):
    await jobs.archive_new_points(ctx)
    place = keys.recent_points(series_id("error_rate", {}))
    cut = (await ctx.stores.online.get(place))[-20 * recent_points.RECORD.itemsize :]
    late = datetime.now(UTC) - timedelta(minutes=1000)
    await ctx.stores.online.set(place, cut + recent_points.pack(late.timestamp(), 0.01, math.nan))
    answer = (
        await incident.get("/series", params={"metric": "error_rate", "from": at(minutes=500)})
    ).json()
    assert len(answer["times"]) == 202


async def test_anomalies_are_listed_with_explanations_and_accept_feedback(incident):
    (found, *_) = (await incident.get("")).json()["anomalies"]
    assert (
        found["metric"] == "error_rate"
        and found["methods"]
        and "error_rate is" in found["sentence"]
    )
    assert (await incident.get("", params={"metric": "other"})).json()["anomalies"] == []
    by_method = (await incident.get("", params={"method": found["methods"][0]})).json()["anomalies"]
    assert found["id"] in [a["id"] for a in by_method]
    answer = await incident.post(
        f"/{found['id']}/feedback", json={"anomaly": False, "note": "a test"}
    )
    assert answer.status_code == 200
    assert (await incident.get("")).json()["anomalies"][0]["feedback"]["by"] == "ana"


async def test_feedback_is_returned_as_labels_for_tuning(incident, tmp_path):
    (found, *_) = (await incident.get("")).json()["anomalies"]
    await incident.post(f"/{found['id']}/feedback", json={"anomaly": False})
    missed = {"metric": "error_rate", "from": at(minutes=100), "to": at(minutes=80), "note": "slow"}
    answer = await incident.post("/missed", json=missed)
    assert answer.status_code == 200 and answer.json()["by"] == "ana"
    (series,) = (await incident.get("/labels")).json()["series"]
    assert series["name"] == "error_rate" and len(series["times"]) == len(series["values"]) == 202
    assert len(series["windows"]) == len(series["denied"]) == 1
    (tmp_path / "labels.json").write_bytes((await incident.get("/labels")).content)
    (read,) = study.load_labelled_series(str(tmp_path / "labels.json"))
    ((first, last),) = read.windows
    assert 19 <= last - first <= 21
    assert (await incident.get("/labels", params={"from": at(minutes=30)})).json()["series"][0][
        "windows"
    ] == []


@pytest.mark.parametrize(
    "change, status",
    [
        ({"metric": "none"}, 404),
        ({"metric": None}, 422),
        ({"to": at(minutes=200)}, 422),
        ({"from": at(days=91)}, 422),
        ({"to": at(minutes=-60)}, 422),
        ({"from": at(days=9)}, 422),
        ({"series": "x"}, 422),
        ({"labels": {"a": 1}}, 422),
        ({"other": 1}, 422),
    ],
)
async def test_an_invalid_missed_anomaly_is_rejected(incident, change, status):
    body = {"metric": "error_rate", "from": at(minutes=100), "to": at(minutes=80)} | change
    answer = await incident.post("/missed", json=body)
    assert (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
    )


async def test_the_job_learns_from_feedback_and_suggests_parameters(ctx, http):
    for k in range(3):
        values = np.random.default_rng(k).normal(0, 1, 1000)
        values[[400, 550, 700, 850]] += 5.0  # what people call noise
        values[950] += 60.0 if k == 0 else 0.0
        assert (await http.post("/metrics", json=points(values, f"lag{k}"))).status_code == 200
    await follow(ctx)
    found = (await http.get("", params={"limit": 1000})).json()["anomalies"]
    true = max(found, key=lambda a: a["value"])
    for anomaly in found:
        await http.post(f"/{anomaly['id']}/feedback", json={"anomaly": anomaly is true})
    job = SimpleNamespace(tenants=[ctx], arguments={}, progress=lambda *_: None)
    assert (await http.get("/suggestion")).json() == {"suggestion": None}
    result = await jobs.learn(job)  # type: ignore[arg-type]
    suggestion = (await http.get("/suggestion")).json()["suggestion"]
    assert result == {"tenants": {ctx.tenant: suggestion}}
    assert (
        suggestion["windows"] == 1
        and suggestion["denied"] >= 4
        and suggestion["score"] > suggestion["current"]
    )
    assert AnomalyParameters.model_validate(suggestion["parameters"]) != ctx.parameters(
        AnomalyParameters
    )


async def test_with_too_little_feedback_nothing_is_suggested(ctx, incident):
    (found, *_) = (await incident.get("")).json()["anomalies"]
    await incident.post(f"/{found['id']}/feedback", json={"anomaly": True})
    job = SimpleNamespace(tenants=[ctx], arguments={}, progress=lambda *_: None)
    assert await jobs.learn(job) == {"tenants": {}}  # type: ignore[arg-type]
    assert (await incident.get("/suggestion")).json() == {"suggestion": None}


async def test_feedback_on_expired_points_is_deleted(ctx, http):
    old, new = (datetime.now(UTC) - timedelta(days=d) for d in (92, 1))
    for moment in (old, new):
        span = {"series": "0" * 16, "from": moment.timestamp(), "to": moment.timestamp()}
        await ctx.stores.online.hset(keys.MISSED, str(moment), json.dumps(span))
        await ctx.stores.online.hset(keys.FEEDBACK, f"{'0' * 16}-{moment.timestamp():.0f}", b"{}")
    await jobs.delete_expired(ctx)
    assert len(await ctx.stores.online.hgetall(keys.MISSED)) == 1
    assert len(await ctx.stores.online.hgetall(keys.FEEDBACK)) == 1


async def test_an_alert_is_listed_acknowledged_and_resolved(incident):
    (alert,) = (await incident.get("/alerts", params={"state": "open", "priority": "P1"})).json()[
        "alerts"
    ]
    assert alert["sentence"].startswith("error_rate is")
    answer = (await incident.post(f"/alerts/{alert['id']}/acknowledge")).json()
    assert (answer["state"], answer["acknowledged_by"]) == ("acknowledged", "ana")
    assert (await incident.post(f"/alerts/{alert['id']}/resolve")).json()["state"] == "resolved"
    assert (await incident.post(f"/alerts/{alert['id']}/acknowledge")).status_code == 409
    assert (await incident.get("/alerts", params={"state": "open"})).json()["alerts"] == []


async def test_valid_points_are_accepted_and_invalid_ones_reported(http):
    good = points([1.0])[0]
    changes = [
        {"value": "NaN"},
        {"value": True},
        {"value": None},
        {"time": at(days=-1)},
        {"time": at(days=91)},
        {"time": "2026-03-02T09:00:00"},
        {"time": "soon"},
        {"labels": {str(i): "x" for i in range(10_000)}},
        {"labels": {"a": 1}},
        {"metric": "a\nb"},
        {"metric": ""},
        {"metric": "x" * 300},
        {"colour": "red"},
        {"kind": "sum"},
    ]
    bad = [*({**good, **change} for change in changes), 7, None, [good]]
    answer = await http.post("/metrics", json=[good, *bad])
    assert answer.status_code == 200 and answer.json()["accepted"] == 1
    assert [r["index"] for r in answer.json()["rejected"]] == list(range(1, len(bad) + 1))
    assert all(r["error"] for r in answer.json()["rejected"])


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_not_finite_are_rejected(http, text):
    body = f'[{{"metric": "m", "value": {text}}}]'
    answer = await http.post("/metrics", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 or answer.json()["accepted"] == 0


async def test_ndjson_and_line_protocol_are_read(http):
    lines = "\n".join(json.dumps(p) for p in points([1.0, 2.0])) + "\nnot json\n"
    answer = (
        await http.post("/metrics", content=lines, headers={"content-type": "application/x-ndjson"})
    ).json()
    assert answer["accepted"] == 2 and answer["rejected"][0]["index"] == 2
    now = datetime.now(UTC).timestamp()
    body = f"cpu,host=a\\ b usage=1.5,idle=3i {now * 1e9:.0f}\n# a comment\nbroken\n"
    answer = (
        await http.post(
            "/metrics", content=body, headers={"content-type": "text/plain; charset=utf-8"}
        )
    ).json()
    assert answer == {
        "accepted": 2,
        "rejected": [
            {"index": 2, "error": "a line is `measurement,tag=value field=value timestamp`"}
        ],
    }


async def test_telegraf_can_write_with_a_precision(http):
    now = datetime.now(UTC).timestamp()
    answer = await http.post(
        "/write?precision=s&db=any&rp=", content=f"mem,host=a used=1i {now:.0f}\n"
    )
    assert answer.status_code == 204
    assert (await http.post("/write", content="broken\n")).status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe"])
async def test_a_body_that_is_not_json_is_malformed(http, body):
    answer = await http.post("/metrics", content=body, headers={"content-type": "application/json"})
    assert (
        answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
    )


async def test_one_of_several_series_is_selected_by_its_labels(ctx, http):
    for host in ("a", "b"):
        await http.post("/metrics", json=points([1.0, 2.0], "cpu", labels={"host": host}))
    await follow(ctx)
    assert (await http.get("/series", params={"metric": "cpu"})).status_code == 422
    chosen = (await http.get("/series", params={"metric": "cpu", "label.host": "b"})).json()
    assert chosen["labels"] == {"host": "b"}
    listed = (await http.get("/metrics")).json()["series"]
    assert [s["labels"]["host"] for s in listed] == ["a", "b"]
    assert (await http.get("/series", params={"series": listed[0]["series"]})).json()["labels"] == {
        "host": "a"
    }


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/series", 422),
        ("/series?metric=nowhere", 404),
        ("/series?series=zz", 422),
        ("/series?series=0123456789abcdef", 404),
        ("?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 422),
        ("?from=yesterday", 422),
        ("?method=magic", 422),
        ("?cursor=x", 422),
        ("?limit=0", 422),
        ("/alerts?state=lost", 422),
        ("/maintenance/none", 404),
        ("?cursor=-1", 422),
        ("?cursor=²", 422),
        ("/alerts?cursor=²", 422),
    ],
)
async def test_an_invalid_query_is_answered_with_a_problem(http, path, status):
    answer = await http.get(path)
    assert (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
    ), answer.text


async def test_maintenance_windows_are_stored_listed_and_deleted(http):
    window = {
        "from": at(minutes=5),
        "to": at(minutes=-5),
        "match": {"metric": "cpu*"},
        "reason": "upgrade",
    }
    assert (await http.put("/maintenance/upgrade", json=window)).json()["active"] is True
    assert (await http.get("/maintenance/upgrade")).json()["match"]["metric"] == "cpu*"
    assert list((await http.get("/maintenance")).json()["maintenance"]) == ["upgrade"]
    assert (await http.delete("/maintenance/upgrade")).status_code == 204
    assert (await http.delete("/maintenance/upgrade")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (
            "/maintenance/w",
            {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
            "before it starts",
        ),
        (
            "/maintenance/w",
            {"from": "2026-01-02T00:00:00", "to": "2026-01-03T00:00:00Z"},
            "a time with an offset",
        ),
        ("/rules/r", {"priority": "P1", "condition": "above"}, "needs a limit"),
        ("/rules/r", {"priority": "P1", "condition": "above", "limit": "x"}, "number"),
        ("/channels/c", {"url": "json://127.0.0.1"}, "type: Field required"),
        ("/channels/c", {"type": "syslog"}, "type: must be one of 'webhook', 'slack'"),
        ("/channels/c", {"type": "webhook", "url": "http://hooks.example"}, "https://"),
        ("/channels/c", {"type": "email", "to": ["a@b.example"]}, "ask its operator"),
    ],
)
async def test_invalid_configuration_is_rejected_with_the_reason(http, path, body, says):
    answer = await http.put(path, json=body)
    assert answer.status_code == 422 and says in answer.text, answer.text


async def test_a_tenant_can_change_the_default_rules(http):
    rules = (await http.get("/rules")).json()["rules"]
    assert rules["error-rate"]["limit"] == 0.1 and rules["error-rate"]["priority"] == "P1"
    changed = {**rules["error-rate"], "limit": 0.2, "match": {"metric": "nothing"}}
    assert (await http.put("/rules/error-rate", json=changed)).json()["matches"] == 0
    assert (await http.get("/rules")).json()["rules"]["error-rate"]["limit"] == 0.2
    assert (await http.delete("/rules/unusual")).status_code == 204
    assert "unusual" not in (await http.get("/rules")).json()["rules"]
    assert (await http.delete("/rules/unusual")).status_code == 404


async def test_one_rule_and_one_channel_are_read_by_id(http):
    listed = (await http.get("/rules")).json()["rules"]["error-rate"]
    assert (await http.get("/rules/error-rate")).json() == {"id": "error-rate", **listed}
    channel = {"type": "slack", "token": f"T0000000/B0000000/{'x' * 24}"}
    put = (await http.put("/channels/chat", json=channel)).json()
    assert (await http.get("/channels/chat")).json() == put
    for path in ("/rules/none", "/channels/none"):
        assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("field", ["channels", "escalation"])
async def test_a_rule_names_defined_channels_only(http, field):
    rule = {"priority": "P3", "condition": "unusual", field: ["chat"]}
    answer = await http.put("/rules/r", json=rule)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == f"{field}.0"
    channel = {"type": "slack", "token": f"T0000000/B0000000/{'x' * 24}"}
    await http.put("/channels/chat", json=channel)
    assert (await http.put("/rules/r", json=rule)).status_code == 200
    assert (await http.delete("/channels/chat")).status_code == 409
    assert (await http.delete("/rules/r")).status_code == 204
    assert (await http.delete("/channels/chat")).status_code == 204


async def test_deleted_rules_do_not_count_towards_the_limit(http, monkeypatch):
    monkeypatch.setattr(config_routes, "MAX_ENTRIES", 2)
    rule = {"priority": "P3", "condition": "above", "limit": 1}
    for n in range(4):
        assert (await http.put(f"/rules/r{n}", json=rule)).status_code == 200
        assert (await http.delete(f"/rules/r{n}")).status_code == 204
        assert (await http.delete(f"/rules/r{n}")).status_code == 404
    answers = [(await http.put(f"/rules/r{n}", json=rule)).status_code for n in range(3)]
    assert answers == [200, 200, 409]


async def test_feedback_on_an_invalid_id_is_not_found(http):
    assert (await http.post("/abc-²/feedback", json={"anomaly": True})).status_code in (404, 422)


async def test_a_channels_credentials_are_never_shown(http):
    channel = {"type": "pagerduty", "routing_key": "secret" + "x" * 26}
    answer = await http.put("/channels/page", json=channel)
    shown = {"type": "pagerduty", "routing_key": "set", "region": "us", "enabled": True}
    assert answer.json() == {"id": "page", **shown}
    listed = await http.get("/channels")
    assert listed.json() == {"channels": {"page": shown}} and "secret" not in listed.text


async def test_a_reader_cannot_write(ctx):
    async with serve(ctx, Role.reader) as http:
        assert (await http.get("/alerts")).status_code == 200
        assert (await http.post("/metrics", json=points([1.0]))).status_code == 403
        assert (
            await http.put("/rules/r", json={"priority": "P1", "condition": "unusual"})
        ).status_code == 403


async def test_lists_are_paged(ctx, http):
    for n in range(3):
        metric = f"{n}.error_rate"
        await http.post("/metrics", json=points([0.9, 0.9], metric, labels={"n": str(n)}))
    await follow(ctx)
    first = (await http.get("/alerts", params={"limit": 2})).json()
    rest = (await http.get("/alerts", params={"limit": 2, "cursor": first["cursor"]})).json()
    assert len(first["alerts"]) == 2 and len(rest["alerts"]) == 1 and rest["cursor"] is None


@pytest.mark.parametrize(
    ("method", "path", "body", "location"),
    [
        ("PUT", "/channels/c", {"type": "webhook", "url": "https://a.b", "bogus": 1}, "bogus"),
        ("PUT", "/channels/c", {"type": "webhook"}, "url"),
        ("PUT", "/channels/c", {"type": "url"}, "type"),
        ("PUT", "/channels/c", {}, "type"),
        ("PUT", "/channels/c", 3, "body"),
        (
            "POST",
            "/missed",
            {"from": str(datetime.now(UTC) - timedelta(minutes=1)), "to": str(datetime.now(UTC))},
            "metric",
        ),
        ("GET", "/series", None, "query.metric"),
        ("POST", "/metrics?precision=q", [], "query.precision"),
        ("POST", "/write?precision=q", "a 1", "query.precision"),
    ],
)
async def test_a_fault_is_located_where_it_was_sent(http, method, path, body, location):
    content = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": "text/plain" if isinstance(body, str) else "application/json"}
    answer = await http.request(method, path, content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert [fault["location"] for fault in answer.json()["errors"]] == [location]
