import io
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI

from shoal import Event, Role, TenantContext
from shoal.contract.rights import SERVICE_RIGHTS, USER_RIGHTS
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights
from shoal_features.aggregation import TIME
from shoal_features.handlers.requests import PARQUET
from shoal_features.handlers.serving import MAX_IDS
from shoal_features.ingest import ingest_events
from shoal_features.registry import Registry
from shoal_features.routes import routes
from shoal_features.views import MAX_FEATURES, Feature, View

from .shared import REGISTRY

pytestmark = pytest.mark.anyio

PLAIN = View(
    "profile",
    "user",
    "user_id",
    "plain",
    (
        Feature("score", "float64"),
        Feature("plan", "string"),
        Feature("tags", "string[]"),
        Feature("n", "int64"),
    ),
    ttl=3600,
)


BOARD = View("board_facts", "board", "board_id", "plain", (Feature("name", "string"),))


def serve(stores, role: Role = Role.editor, user: str | None = None) -> httpx.AsyncClient:
    router = routes(None)  # type: ignore[arg-type]
    enforce_rights(router)
    app = FastAPI()
    app.include_router(router, prefix="/features")
    install_problem_handlers(app)
    context = TenantContext(
        stores.online._tenant,
        role,
        (USER_RIGHTS if user else SERVICE_RIGHTS)[role],
        user,
        None,
        "r1",
        stores,
        None,
        None,
        None,
    )  # type: ignore[arg-type]

    async def behind_the_router(scope, receive, send):
        await app(scope | {"shoal.context": context}, receive, send)

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(behind_the_router), base_url="http://shoal"
    )


@pytest.fixture
async def http(stores):
    async with serve(stores) as client:
        yield client


@pytest.fixture
async def profile(http):
    answer = await http.put(
        "/features/definitions",
        json=Registry((*REGISTRY.views, PLAIN), REGISTRY.services).to_dict(),
    )
    assert answer.status_code == 200, answer.text
    return http


def now(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def push(http, *rows, to="online", view="profile"):
    if to != "online":  # where each row gives every feature
        rows = tuple(dict.fromkeys((f.name for f in PLAIN.features), None) | row for row in rows)
    return (
        await http.post(f"/features/views/{view}/rows", json={"rows": list(rows), "to": to})
    ).json()


async def act(
    stores, user: str, n: int = 1, seconds_ago: float = 1, type: str = "item.viewed", **data
):
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    events = [Event(type=type, time=at, data={"user_id": user, **data}) for _ in range(n)]
    await stores.events.append(events)
    await ingest_events(stores.online, REGISTRY, events)


async def test_the_root_answers_exactly_as_documented(http, stores):
    await act(stores, "123", 3, board_id="b7")
    answer = await http.get(
        "/features?tenant=acme&user=123&features=actions_5min,current_board,boards_30d"
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "user_id": "123",
        "features": {"actions_5min": 3, "current_board": "b7", "boards_30d": None},
    }


async def test_metadata_says_where_each_value_comes_from(http, stores):
    await act(stores, "123", 2)
    body = (await http.get("/features?user=123&features=actions,boards_30d&metadata=true")).json()
    assert body["features"] == {"actions": 2, "boards_30d": None}
    assert body["metadata"]["boards_30d"] == {"type": "int64", "status": "missing"}
    assert body["metadata"]["actions"]["status"] == "present"
    assert 0 <= body["metadata"]["actions"]["age_seconds"] < 60


async def test_a_value_past_its_ttl_is_null_and_says_expired(profile):
    await push(
        profile,
        {"user": "1", "event_timestamp": now(-3601), "n": 1},
        {"user": "2", "event_timestamp": now(-10), "n": 2},
    )
    bodies = [(await profile.get(f"/features?user={u}&features=n&metadata=1")).json() for u in "12"]
    assert [b["features"]["n"] for b in bodies] == [None, 2]
    assert [b["metadata"]["n"]["status"] for b in bodies] == ["expired", "present"]


async def test_newer_wins_by_event_time_and_then_by_created_time(profile):
    t = now(-60)
    for event, created, n in [
        (t, now(-50), 1),
        (now(-70), now(), 2),
        (t, now(-55), 3),
        (t, now(-40), 4),
    ]:
        assert (
            await push(profile, {"user": "1", "event_timestamp": event, "created": created, "n": n})
        )["accepted"] == 1
    assert (await profile.get("/features?user=1&features=n")).json()["features"]["n"] == 4


async def test_values_keep_their_types_and_nan_is_null(profile):
    row = {
        "user_id": 7,
        "event_timestamp": now(),
        "score": 2,
        "plan": 'é"\\',
        "tags": ["a", "b"],
        "n": 2**53 + 1,
    }
    assert await push(profile, row) == {"accepted": 1, "rejected": []}
    text = (await profile.get("/features?user=7&features=score,plan,tags,n")).text
    assert text == (
        '{"user_id":"7","features":{"score":2.0,"plan":"é\\"\\\\","tags":["a","b"],'
        '"n":9007199254740993}}'
    )


async def test_a_user_has_their_own_features_and_public_views(stores):
    public = replace(BOARD, name="board_names", tags={"public_to": "users"})
    private = replace(BOARD, features=(Feature("secret", "string"),))
    async with serve(stores) as service, serve(stores, user="ana") as ana:
        views = [asdict(v) for v in (PLAIN, public, private)]
        assert (await service.put("/features/definitions", json={"views": views})).is_success
        for view, key in (("board_names", "board"), ("board_facts", "board"), ("profile", "user")):
            feature = {"profile": "n", "board_names": "name", "board_facts": "secret"}[view]
            value = 1 if feature == "n" else "x"
            for id in ("ana", "bo"):
                row = {key: id, "event_timestamp": now(), feature: value}
                path = f"/features/views/{view}/rows"
                assert (await service.post(path, json={"rows": [row]})).is_success
                allowed = view == "profile" and id == "ana"
                got = await ana.post(path, json={"rows": [row]})
                assert got.status_code == (200 if allowed else 403), got.text
                both = {"rows": [row | {key: "ana"}, row | {key: "bo"}]}
                assert (await ana.post(path, json=both)).status_code == 403
                allowed |= view == "board_names"
                got = await ana.get(f"/features?{key}={id}&features={feature}")
                assert got.status_code == (200 if allowed else 403), got.text
        mixed = {"entity": "board", "ids": ["bo"], "features": ["name", "secret"]}
        assert (await ana.post("/features/batch", json=mixed)).status_code == 403
        mixed["features"] = ["name"]
        assert (await ana.post("/features/batch", json=mixed)).status_code == 200


async def test_a_row_without_any_feature_is_rejected(profile):
    bare = {"user": "1", "event_timestamp": now()}
    for to in ("online", "offline"):
        body = {"rows": [bare, bare | {"n": 1}], "to": to}
        answer = (await profile.post("/features/views/profile/rows", json=body)).json()
        assert "no feature of profile" in answer["rejected"][0]["error"] or to == "offline"


@pytest.mark.parametrize("count", [MAX_FEATURES, MAX_FEATURES + 1])
async def test_every_registered_view_can_be_pushed_to(http, count):
    wide = replace(
        PLAIN, name="wide", features=tuple(Feature(f"f{n}", "int64") for n in range(count))
    )
    body = {"views": [*(asdict(v) for v in REGISTRY.views), asdict(wide)]}
    answer = await http.put("/features/definitions", json=body)
    if count > MAX_FEATURES:
        assert answer.status_code == 422 and "several views" in answer.text
        return
    row = {"user": "1", "event_timestamp": now(), **{f"f{n}": n for n in range(count)}}
    answer = await http.post("/features/views/wide/rows", json={"rows": [row]})
    assert answer.status_code == 200 and not answer.json()["rejected"]
    got = await http.get(f"/features?user=1&features=f0,f{count - 1}")
    assert got.json()["features"] == {"f0": 0, f"f{count - 1}": count - 1}


async def test_a_public_view_names_whom_it_is_public_to(http):
    view = asdict(replace(PLAIN, tags={"public_to": "everyone"}))
    answer = await http.put("/features/definitions", json={"views": [view]})
    assert answer.status_code == 422 and "'users'" in answer.text


async def test_nothing_is_removed_without_prune(profile):
    path, services = "/features/definitions", {"scores": ["profile:score", "profile:n"]}
    smaller = replace(PLAIN, ttl=60, features=PLAIN.features[:1])
    body = Registry((*REGISTRY.views, PLAIN), {**REGISTRY.services, **services}).to_dict()
    assert (await profile.put(path, json=body)).json()["new"] == ["service scores"]
    before = (await profile.get("/features/views")).json()
    removed = ["profile:plan", "profile:tags", "profile:n", "service scores"]
    body = Registry((*REGISTRY.views, smaller), REGISTRY.services).to_dict()
    refused = await profile.put(path, json=body)
    assert refused.status_code == 409 and ", ".join(removed) in refused.json()["detail"]
    planned = (await profile.put(f"{path}?dry_run=1&prune=1", json=body)).json()
    assert (await profile.get("/features/views")).json() == before
    done = (await profile.put(f"{path}?prune=1", json=body)).json()
    assert done == planned and (done["new"], done["removed"]) == ([], removed)
    assert done["changed"] == [{"name": "view profile", "field": "ttl", "old": 3600, "new": 60}]
    assert (await profile.put(path, json={"views": []})).status_code == 409
    assert (await profile.put(f"{path}?prune=1", json={"views": []})).status_code == 200
    assert (await profile.get("/features/views")).json()["views"] == []


async def test_an_unknown_feature_is_answered_with_the_nearest(http):
    answer = await http.get("/features?user=1&features=boards_30,actions")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "location": "query.features",
            "message": "unknown feature 'boards_30'",
            "feature": "boards_30",
            "nearest": ["boards_30d"],
        }
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("features=actions", "name one entity"),
        ("user=1", "say which features"),
        ("user=1&features=,,", "say which features"),
        ("user=&features=actions", "1 to 512 characters"),
        (f"user={'x' * 600}&features=actions", "1 to 512 characters"),
        ("user=a%00b&features=actions", "control character"),
        ("ghost=1&features=actions", "unknown entity type 'ghost'; known types: user"),
        ("user=1&item=2&features=actions", "name one entity, not user, item"),
        ("user=1&user=2&features=actions", "name one entity"),
    ],
)
async def test_an_invalid_request_is_refused_with_a_reason(http, query, message):
    answer = await http.get(f"/features?{query}")
    assert answer.status_code == 422 and message in answer.json()["detail"]


async def test_ids_with_colons_and_braces_are_distinct(profile):
    await push(
        profile,
        {"user": "a:b", "event_timestamp": now(), "n": 1},
        {"user": "{a}:b%", "event_timestamp": now(), "n": 2},
    )
    body = {"entity": "user", "ids": ["a:b", "{a}:b%", "a", "a%3Ab"], "features": ["n"]}
    results = (await profile.post("/features/batch", json=body)).json()["results"]
    assert [r["features"]["n"] for r in results] == [1, 2, None, None]


async def test_a_batch_answers_in_the_order_of_the_ids(http, stores):
    for user, n in (("1", 1), ("2", 2), ("3", 3)):
        await act(stores, user, n)
    body = {
        "entity": "user",
        "ids": ["3", 1, "unknown", "3"],
        "features": ["actions", "last_action_type"],
    }
    answer = (await http.post("/features/batch", json=body)).json()
    assert answer["entity"] == "user"
    assert [(r["user_id"], r["features"]["actions"]) for r in answer["results"]] == [
        ("3", 3),
        ("1", 1),
        ("unknown", None),
        ("3", 3),
    ]
    assert answer["results"][0]["features"]["last_action_type"] == "item.viewed"


async def test_a_reader_may_read_in_batch_but_not_write(stores):
    async with serve(stores, Role.reader) as http:
        assert (
            await http.post(
                "/features/batch", json={"entity": "user", "ids": ["1"], "features": ["actions"]}
            )
        ).status_code == 200
        assert (await http.put("/features/definitions", json={"views": []})).status_code == 403


async def test_more_ids_than_the_limit_are_refused_with_the_limit(http):
    answer = await http.post(
        "/features/batch",
        json={"entity": "user", "ids": list(range(10_000)), "features": ["actions"]},
    )
    assert answer.status_code == 422 and f"at most {MAX_IDS} items" in answer.json()["detail"]


async def test_invalid_rows_are_rejected_by_index_and_others_written(profile):
    answer = await push(
        profile,
        {"user": "1", "event_timestamp": now(), "n": 1},
        {"user": "1", "event_timestamp": "2026-11-23T10:00:00", "n": 1},
        {"user": "1", "event_timestamp": now(), "n": "1"},
        {"user": "1", "event_timestamp": now(), "ghost": 1},
        {"event_timestamp": now(), "n": 1},
        {"user": "1", "event_timestamp": now(), "n": 2**63},
    )
    assert answer["accepted"] == 1
    assert [r["index"] for r in answer["rejected"]] == [1, 2, 3, 4, 5]
    assert "has no zone" in answer["rejected"][0]["error"]
    assert answer["rejected"][1]["error"] == "n: '1' is not an int64"


@pytest.mark.parametrize("to", ["online", "offline", "online_and_offline"])
@pytest.mark.parametrize("field", ["event_timestamp", "created"])
async def test_a_row_dated_ahead_is_rejected_and_others_written(profile, field, to):
    for ahead, accepted in ((400 * 86_400, 0), (360, 0), (240, 1)):
        row = {"user": "1", "event_timestamp": now(-10), "n": 1}
        row[field] = now(ahead)
        answer = await push(profile, row, to=to)
        assert answer["accepted"] == accepted
        assert accepted or "ahead of the clock" in answer["rejected"][0]["error"]


async def test_values_of_a_stream_view_cannot_be_pushed(http):
    answer = await http.post("/features/views/user_activity/rows", json={"rows": []})
    assert answer.status_code == 422 and "append events" in answer.json()["detail"]


async def test_history_gives_values_known_at_each_time(profile):
    for seconds, n in ((-100, 1), (-50, 2)):
        await push(profile, {"user": "1", "event_timestamp": now(seconds), "n": n}, to="offline")
    entity_rows = [{"user": "1", "event_timestamp": now(s)} for s in (-120, -75, -10, 4000)]
    answer = await profile.post(
        "/features/historical", json={"entities": entity_rows, "features": ["n"]}
    )
    assert [r["n"] for r in answer.json()["rows"]] == [None, 1, 2, None]
    assert answer.json()["rows"][0]["user"] == "1"


async def test_history_with_a_cutoff_ignores_later_knowledge(profile):
    t = now(-100)
    for created, n in ((now(-90), 1), (now(-20), 2)):
        await push(
            profile, {"user": "1", "event_timestamp": t, "created": created, "n": n}, to="offline"
        )
    entity_rows = [{"user": "1", "event_timestamp": now(-10)}]
    for known_by, n in ((now(-50), 1), (now(), 2), (now(-95), None)):
        body = {"entities": entity_rows, "features": ["n"], "known_by": known_by}
        assert (await profile.post("/features/historical", json=body)).json()["rows"][0]["n"] == n
    entity_rows = [{"user": "1", "event_timestamp": now(-10), "known_by": now(s)} for s in (-50, 0)]
    rows = (
        await profile.post(
            "/features/historical", json={"entities": entity_rows, "features": ["n"]}
        )
    ).json()["rows"]
    assert [r["n"] for r in rows] == [1, 2]


async def test_history_of_a_stream_view_equals_its_windows(http, stores):
    await act(stores, "1", 2, seconds_ago=400)
    await act(stores, "1", 3, seconds_ago=100, board_id="b2")
    entity_rows = [{"user_id": "1", "event_timestamp": now(s)} for s in (-500, -350, -90, 300)]
    body = {"entities": entity_rows, "features": ["actions_5min", "actions", "current_board"]}
    rows = (await http.post("/features/historical", json=body)).json()["rows"]
    assert [r["actions_5min"] for r in rows] == [None, 2, 3, 0]
    assert [r["actions"] for r in rows] == [None, 2, 5, 5]
    assert [r["current_board"] for r in rows] == [None, None, "b2", "b2"]


async def test_history_as_of_a_date_is_for_every_entity(profile, stores):
    await act(stores, "event user", 1, seconds_ago=50)
    await push(profile, {"user": "pushed user", "event_timestamp": now(-50), "n": 5}, to="offline")
    body = {"as_of": now(-10), "entity": "user", "features": ["n", "actions"]}
    rows = (await profile.post("/features/historical", json=body)).json()["rows"]
    assert [(r["user_id"], r["n"], r["actions"]) for r in rows] == [
        ("event user", None, 1),
        ("pushed user", 5, None),
    ]


async def test_history_accepts_and_returns_parquet(profile):
    await push(profile, {"user": "1", "event_timestamp": now(-50), "n": 5}, to="offline")
    table = pa.table(
        {
            "user_id": ["1", "2"],
            "event_timestamp": pa.array([datetime.now(UTC)] * 2, pa.timestamp("us", "UTC")),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    answer = await profile.post(
        "/features/historical?features=n",
        content=sink.getvalue(),
        headers={"content-type": PARQUET, "accept": PARQUET},
    )
    assert answer.headers["content-type"] == PARQUET
    got = pq.read_table(io.BytesIO(answer.content))
    assert got.column_names == ["user_id", "event_timestamp", "n"] and got["n"].to_pylist() == [
        5,
        None,
    ]


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (
            {
                "entities": [{"user": "1", "event_timestamp": "2026-11-23T10:00:00"}],
                "features": ["actions"],
            },
            "entities.0",
        ),
        (
            {"entities": [{"user": "1", "event_timestamp": "soon"}], "features": ["actions"]},
            "entities.0",
        ),
        ({"entities": [{"user": "1"}], "features": ["actions"]}, "entities.0"),
        (
            {
                "entities": [{"ghost": "1", "event_timestamp": "2026-11-23T10:00:00Z"}],
                "features": ["actions"],
            },
            "entities.0",
        ),
        (
            {
                "entities": [{"user": None, "event_timestamp": "2026-11-23T10:00:00Z"}],
                "features": ["actions"],
            },
            "entities.0",
        ),
        ({"entities": [1], "features": ["actions"]}, "entities.0"),
        ({"entities": {}, "features": ["actions"]}, "entities"),
        (
            {
                "entities": [{"user": "1", "event_timestamp": "2026-11-23T10:00:00Z"}],
                "features": ["ghost"],
            },
            "features",
        ),
        (
            {
                "entities": [{"user": "1", "event_timestamp": "2026-11-23T10:00:00Z"}],
                "features": "actions",
            },
            "features",
        ),
        ({"entities": [], "features": ["actions"], "known_by": "2026-11-23"}, "known_by"),
        ({"entities": [], "features": ["actions"], "ghost": 1}, "ghost"),
        ([], "body"),
    ],
)
async def test_an_invalid_historical_body_is_refused_with_its_location(http, body, location):
    answer = await http.post("/features/historical", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["location"] == location


@pytest.mark.parametrize("kind", ["application/json", PARQUET])
async def test_a_body_of_another_media_type_is_malformed(http, kind):
    answer = await http.post(
        "/features/historical?features=actions", content=b"PAR1 {", headers={"content-type": kind}
    )
    assert answer.status_code == 400


async def test_a_type_change_is_refused_and_the_old_definition_stays(profile):
    other = View("profile", "user", "user_id", "plain", (Feature("n", "string"),))
    answer = await profile.put("/features/definitions", json=Registry((other,)).to_dict())
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == "views.profile.n"
    assert "int64" in answer.json()["errors"][0]["message"]
    views = (await profile.get("/features/views")).json()["views"]
    assert (
        next(f for v in views if v["name"] == "profile" for f in v["features"] if f["name"] == "n")[
            "dtype"
        ]
        == "int64"
    )


@pytest.mark.parametrize(
    "body",
    [{}, {"views": 1}, {"views": [{"name": "x"}]}, {"views": [{"name": "a b", "entity": "u"}]}],
)
async def test_malformed_definitions_are_refused(http, body):
    assert (await http.put("/features/definitions", json=body)).status_code == 422


async def test_freshness_gives_age_and_lateness(http, stores):
    await act(stores, "1", 1, seconds_ago=5)
    await act(stores, "1", 2, seconds_ago=90_000)
    views = {v["view"]: v for v in (await http.get("/features/freshness")).json()["views"]}
    assert views["user_boards"]["age_seconds"] is None
    assert views["user_activity"]["too_late"] == 2
    assert views["user_activity"]["lag_seconds"] >= 0


HISTORY = "/features/historical"
IGNORED = {
    "known_by beside a body": (HISTORY + "?known_by=2000-01-01T00:00:00Z", {}),
    "entity beside a body": (HISTORY + "?entity=user", {}),
    "known_by twice": (HISTORY, {"known_by": "2000-01-01T00:00:00Z"}),
    "another tenant": (
        HISTORY,
        {"entities": [{"user": "1", "event_timestamp": now(), "tenant_id": "x"}]},
    ),
    "true as an id": ("/features/batch", {"entity": "user", "ids": [True], "features": ["n"]}),
    "half an id": ("/features/batch", {"entity": "user", "ids": [1.0], "features": ["n"]}),
}


@pytest.mark.parametrize(("path", "changes"), IGNORED.values(), ids=IGNORED)
async def test_what_would_be_ignored_is_refused(profile, path, changes):
    row = {"user": "1", "event_timestamp": now(), "known_by": now()}
    body = {"entities": [row], "features": ["n"]} if path.startswith(HISTORY) else {}
    assert (await profile.post(path, json=body | changes)).status_code == 422


@pytest.mark.parametrize("query", ["user=%ff", "user=1&metadata=maybe", "user=1&metadata="])
async def test_a_query_is_never_taken_for_another(profile, query):
    assert (await profile.get(f"/features?{query}&features=n")).status_code == 422


@pytest.mark.parametrize("ids", [[""], ["a\0b"], ["a\nb"], ["x" * 513], [True], [2.5]])
async def test_ids_in_parquet_are_checked_as_in_json(profile, ids):
    table = pa.table({"user": ids, "event_timestamp": pa.array([datetime.now(UTC)], TIME)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    headers = {"content-type": PARQUET}
    for path in (HISTORY + "?features=n", "/features/datasets/hard"):
        answer = await profile.post(path, content=sink.getvalue(), headers=headers)
        assert answer.status_code == 422, answer.text


async def test_rows_of_another_tenant_and_pairs_are_rejected(profile):
    good = {"user": "1", "event_timestamp": now(), "n": 1}
    rows = [{**good, "tenant_id": "other"}, [list(pair) for pair in good.items()], 5, "ab"]
    answer = await push(profile, good)
    assert answer["accepted"] == 1
    body = {"rows": rows}
    answer = (await profile.post("/features/views/profile/rows", json=body)).json()
    assert answer["accepted"] == 0 and len(answer["rejected"]) == 4
    assert "tenant_id" in answer["rejected"][0]["error"]
    assert {r["error"] for r in answer["rejected"][1:]} == {"a row is an object"}


async def test_users_push_online_only(stores, profile):
    async with serve(stores, Role.editor, "ana") as ana:
        row = {"user": "ana", "event_timestamp": now(), "score": 1, "plan": "", "tags": [], "n": 1}
        for to, status in (("online", 200), ("offline", 403), ("online_and_offline", 403)):
            body = {"rows": [row], "to": to}
            answer = await ana.post("/features/views/profile/rows", json=body)
            assert answer.status_code == status, answer.text


async def test_freshness_of_pushed_views_is_their_newest_row(profile):
    now = datetime.now(UTC).replace(microsecond=0)
    for seconds, to in ((60, "online_and_offline"), (90, "online"), (30, "offline")):
        row = {"user": "1", "event_timestamp": (now - timedelta(seconds=seconds)).isoformat()}
        body = {"rows": [{**row, "score": 1, "plan": "", "tags": [], "n": 1}], "to": to}
        answer = await profile.post("/features/views/profile/rows", json=body)
        assert answer.json() == {"accepted": 1, "rejected": []}
    views = {v["view"]: v for v in (await profile.get("/features/freshness")).json()["views"]}
    newest = datetime.fromisoformat(views["profile"]["newest"])
    assert newest == now - timedelta(seconds=60)
    assert views["profile"]["age_seconds"] >= 60


async def test_without_redis_requests_get_503_with_retry_after(open_tenant):
    from shoal.stores.configuration import StoreConfig
    from shoal.tenants.tenant_stores import open_stores

    unavailable = open_stores(
        StoreConfig(
            online="redis://127.0.0.1:1/0", vectors="http://127.0.0.1:1", lake="/nonexistent"
        ),
        "acme",
        "features",
    )
    async with serve(unavailable) as http:
        for call in (
            http.get("/features?user=1&features=actions"),
            http.post(
                "/features/batch", json={"entity": "user", "ids": ["1"], "features": ["actions"]}
            ),
            http.get("/features/freshness"),
            http.get("/features/views"),
        ):
            answer = await call
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


async def test_a_data_set_is_uploaded_counted_and_deleted(http):
    times = pa.array([datetime.now(UTC)] * 3, pa.timestamp("us", "UTC"))
    body = parquet(pa.table({"user_id": ["1", "2", "3"], "event_timestamp": times}))
    assert (await http.post("/features/datasets/mine", content=body)).json() == {"accepted": 3}
    assert (await http.get("/features/datasets/mine")).json() == {
        "rows": 3,
        "answered": 0,
        "parts": 0,
    }
    assert (await http.get("/features/datasets/mine?part=0")).status_code == 404
    assert (await http.delete("/features/datasets/mine")).json() == {"files": 1}


async def test_a_data_set_needs_a_name_and_rows(http):
    assert (await http.post("/features/datasets/A.B", content=b"")).status_code == 422
    assert (await http.post("/features/datasets/mine", content=b"no")).status_code == 400
    naive = pa.table(
        {"user_id": ["1"], "event_timestamp": pa.array([datetime(2026, 1, 1)], pa.timestamp("us"))}
    )
    answer = await http.post("/features/datasets/mine", content=parquet(naive))
    assert answer.status_code == 422 and "with a zone" in answer.json()["detail"]


async def join(http, rows, accept_parquet=False, send_parquet=False, **body):
    body = {"features": ["n"], "entity": "user", **body}
    headers, options = {}, {"json": {"entities": rows, **body}}
    if accept_parquet:
        headers["accept"] = PARQUET
    if send_parquet:
        sink = io.BytesIO()
        pq.write_table(rows, sink)
        query = {k: ",".join(v) if isinstance(v, list) else v for k, v in body.items()}
        headers["content-type"] = PARQUET
        options = {"content": sink.getvalue(), "params": query}
    answer = await http.post("/features/historical", headers=headers, **options)
    if not answer.is_success:
        return answer
    if accept_parquet:
        return pq.read_table(io.BytesIO(answer.content)).to_pylist()
    return answer.json()["rows"]


OWN = {
    "label": [True, None, False],
    "weight": [1, 2, 3],
    "board": ["b", None, "é"],
    "score": [0.5, 2.5, None],
}


@pytest.mark.parametrize("send", [False, True])
@pytest.mark.parametrize("accept", [False, True])
async def test_other_columns_are_given_back(profile, send, accept):
    await push(profile, {"user": "1", "event_timestamp": now(-60), "n": 7}, to="offline")
    ids, at = ["2", "1", "1"], datetime.now(UTC) - timedelta(seconds=9)
    names = ["user", "event_timestamp", *OWN, "n"]
    expected = [{n: OWN[n][i] for n in OWN} | {"n": (None, 7, 7)[i]} for i in range(3)]
    if send:
        rows = pa.table({"user": ids, "event_timestamp": pa.array([at] * 3), **OWN})
    else:
        rows = [
            {"user": id, "event_timestamp": at.isoformat(), **{n: OWN[n][i] for n in OWN}}
            for i, id in enumerate(ids)
        ]
    got = await join(profile, rows, accept, send)
    assert [list(row) for row in got] == [names] * 3
    assert [{n: row[n] for n in expected[0]} for row in got] == expected
    assert [row["user"] for row in got] == ids


async def test_columns_that_cannot_be_given_back_are_refused(profile):
    for more, message in (
        ({"n": 1}, "a feature has this name"),
        ({"label": {"a": 1}}, "must all be text"),
        ({f"c{i}": 1 for i in range(100)}, "at most 100 columns"),
    ):
        answer = await join(profile, [{"user": "1", "event_timestamp": now(), **more}])
        assert answer.status_code == 422 and message in answer.text, answer.text
    both = [{"user": "1", "user_id": "1", "event_timestamp": now()}]
    assert (await join(profile, both)).status_code == 422


@pytest.mark.parametrize("send", [False, True])
@pytest.mark.parametrize(
    ("naive", "zone", "utc"),
    [
        (datetime(2026, 7, 1, 12), "Europe/Lisbon", datetime(2026, 7, 1, 11, tzinfo=UTC)),
        (datetime(2026, 1, 1, 12), "Asia/Kolkata", datetime(2026, 1, 1, 6, 30, tzinfo=UTC)),
        (datetime(2026, 1, 1, 12), None, None),
        (datetime(2026, 1, 1, 12), "Mars/Olympus", None),
        (datetime(2026, 1, 1, 12), "../etc/passwd", None),
        (datetime(2026, 10, 25, 1, 30), "Europe/Lisbon", None),  # twice
        (datetime(2026, 3, 29, 1, 30), "Europe/Lisbon", None),  # never
    ],
)
async def test_naive_times_are_of_the_stated_zone(profile, send, naive, zone, utc):
    if send:
        rows = pa.table({"user": ["1"], "event_timestamp": pa.array([naive], pa.timestamp("us"))})
    else:
        rows = [{"user": "1", "event_timestamp": naive.isoformat()}]
    got = await join(profile, rows, True, send, **({"time_zone": zone} if zone else {}))
    if utc is None:
        assert got.status_code == 422, got.text
        assert "zone" in got.text or "clocks change" in got.text
    else:
        assert got[0]["event_timestamp"] == utc


async def test_a_data_set_refuses_columns_that_it_would_lose(http):
    sink = io.BytesIO()
    at = pa.array([datetime.now(UTC)])
    pq.write_table(pa.table({"user": ["1"], "event_timestamp": at, "label": [1]}), sink)
    headers = {"content-type": PARQUET}
    answer = await http.post("/features/datasets/x", content=sink.getvalue(), headers=headers)
    assert answer.status_code == 422 and "label" in answer.text
