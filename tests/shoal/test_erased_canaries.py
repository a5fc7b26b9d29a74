"""After a tenant is erased, no byte of what it wrote is in any file."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

import shoal_features
from shoal import Event, VectorSchema
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis
from shoal.tenants.tenant_stores import open_stores

from ..canaries import Canary, body, request_bodies

CAPABILITIES = ("search", "features", "anomalies", "experiments", "optimizer")
NOW = datetime.now(UTC)
WHEN = NOW.isoformat()
LATER = (NOW + timedelta(days=9)).isoformat()
SHIPPED = json.loads((Path(shoal_features.__file__).with_name("workspace.json")).read_text())[
    "views"
]
HALVES = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]


def by_hand(word: Callable[[], str]) -> list[tuple[str, str, Any]]:
    """Requests whose rules a schema does not say."""
    item = {"board_id": word(), "type": "item", "updated_at": WHEN, "metadata": {word(): word()}}
    design = {
        "hypothesis": word(),
        "variants": HALVES,
        "primary": {"name": word()},
        "minimum_effect": 0.1,
        "baseline": 0.2,
        "duration_days": 7,
    }
    view = {
        "name": "notes", "entity": "user", "join_key": "user_id", "kind": "plain",
        "description": word(), "features": [{"name": "note", "dtype": "string"}],
    }  # fmt: skip
    note = {"user": word(), "event_timestamp": WHEN, "note": word()}
    task = {"title": word(), "estimated_hours": 4, "deadline": LATER, "skills": {word(): 3}}
    people = [{"id": word(), "name": word(), "skills": {word(): 3}} for _ in range(3)]
    points = [
        {"metric": word(), "time": WHEN, "value": 1.0, "labels": {word(): word()}} for _ in range(3)
    ]
    events = [
        {
            "type": f"{word()}.made",
            "source": word(),
            "id": word(),
            "subject": word(),
            "data": {word(): word(), "nested": [{word(): word()}]},
            "traceparent": word(),
        },
        {
            "type": "item.created",
            "subject": word(),
            "data": {**item, "id": word(), "title": word()},
        },
        {"type": "item.viewed", "data": {"user_id": word()}},
    ]
    return [
        ("POST", "/platform/events", events),
        ("PUT", f"/platform/boards/{word()}/members", {"users": [word(), word()]}),
        ("POST", "/search/items", [
            {**item, "id": word(), "title": word(), "text": " ".join(word() for _ in range(40))}
            for _ in range(30)
        ]),
        ("PUT", "/features/definitions", {"views": [*SHIPPED, view]}),
        ("POST", "/features/views/notes/rows", {"rows": [note], "to": "online_and_offline"}),
        ("POST", "/anomalies/metrics", points),
        ("PUT", f"/anomalies/rules/{word()}", {"priority": "P3", "condition": "unusual"}),
        ("PUT", f"/anomalies/maintenance/{word()}", {"from": WHEN, "to": LATER}),
        ("PUT", f"/experiments/{word()}", design),
        ("POST", "/optimizer/people", people),
        ("PUT", f"/optimizer/tasks/{word()}", task),
        ("PUT", f"/optimizer/people/{word()}", {"name": word()}),
    ]  # fmt: skip


def write_everything(app: Any, tenant: str, word: Canary) -> Counter[str]:
    """Send every operation a body of canaries; how many each capability took."""
    taken: Counter[str] = Counter()
    headers = {"Authorization": f"Bearer {app.key(tenant, 'admin')}"}
    requests = by_hand(word)
    with httpx.Client(base_url=app.address, headers=headers, timeout=60) as http:
        for name in ("platform", *CAPABILITIES):
            document = http.get(f"/{name}/openapi.json").json()
            for method, path, schema in request_bodies(document):
                while "{" in path:
                    start, _, rest = path.partition("{")
                    path = f"{start}{word()}{rest.partition('}')[2]}"
                requests.append((method, path, body(schema, document, word)))
        for number, (method, path, content) in enumerate(requests):
            answer = http.request(method, path, json=content)
            assert answer.status_code < 500, (method, path, answer.text)
            assert answer.is_success or number >= len(by_hand(Canary())), answer.text
            taken[path.split("/")[1]] += answer.is_success
            # Searching and reading leaves words too: in caches and counts.
            http.get("/search", params={"q": word()})
    return taken


def work_in_the_background(app: Any, tenant: str, word: Canary) -> None:
    """What workers and jobs write: streams, dead letters, the archive, results."""
    log, config = app.platform.event_log, app.platform.stores
    stores = open_stores(config, tenant, "notes")

    async def handle(name: str) -> None:
        capability, stream = app.platform.streams()[name]
        context = await app.platform.context(tenant, capability.name)
        with contextlib.suppress(Exception):  # the generated events are not all valid
            await stream.handle(context, [event async for _, event in stores.events.read()])

    async def fail(_: str, __: Any) -> None:
        raise ValueError(word())

    async def leave_dead_letters() -> None:
        stop = asyncio.Event()
        following = asyncio.ensure_future(
            log.consume("search.index", "w", fail, tenants=just, stop=stop, deliveries=1)
        )
        while not await log.dead_letters(tenant):
            await asyncio.sleep(0.05)
        stop.set()
        await following
        await log.replay(tenant, "search.index", after="0")

    async def just() -> list[str]:
        return [tenant]

    async def archive() -> None:
        await log.archive(tenant)
        await stores.events.append([Event(type=word())])
        await log.archive(tenant)
        await stores.lake.append("mine", pa.table({word(): [word()]}), NOW.date())
        await stores.lake.compact("events", 2)

    async def fill_vectors() -> None:
        await stores.vectors.ensure("mine", VectorSchema(2, {"words": "tokens"}))
        rows = [{"id": word(), "vectors": [[1, 0]], "words": word()} for _ in range(300)]
        await stores.vectors.upsert("mine", rows)
        await stores.vectors.delete("mine", [rows[0]["id"]])

    for name in app.platform.streams():
        app.run(handle(name))
    for step in (leave_dead_letters, archive, fill_vectors):
        app.run(step())
    for name in ("anomalies.keep", "anomalies.train", "features.materialize", "experiments.daily"):
        with contextlib.suppress(Exception):  # it may have nothing to work on
            app.job(name, tenant)


@pytest.mark.timeout(280)
def test_no_byte_of_an_erased_tenant_is_in_any_file(
    shoal_app: Callable[..., Any], shoal_servers: StoreConfig
):
    app, word, tenant = shoal_app(*CAPABILITIES), Canary(), f"erased-{time.time_ns()}"
    folder = Path(shoal_servers.lake).parent

    async def plain_snapshots() -> None:
        """Have Redis compress nothing, so that what remains can be seen."""
        for uri in (shoal_servers.online, shoal_servers.events):
            await async_redis(uri).execute_command("CONFIG", "SET", "rdbcompression", "no")

    app.run(plain_snapshots())
    taken = write_everything(app, tenant, word)
    assert all(taken[name] >= least for name, least in LEAST.items()), taken
    work_in_the_background(app, tenant, word)
    before = {path.split("/")[0] for path in word.files(folder)}
    assert before >= {"events", "redis", "vectors", "lake"}
    done = app.run(app.platform.erase_tenant(tenant))
    assert not [place for place in done.remains if place.startswith("stores.")]
    app.tenants.remove(tenant)
    for _ in range(50):  # Redis removes former files a moment later
        if not (remaining := word.files(folder)):
            break
        time.sleep(0.1)
    assert remaining == []
    assert word.files(Path(app._data.name)) == []


LEAST = {
    "platform": 5,
    "search": 1,
    "features": 2,
    "anomalies": 4,
    "experiments": 2,
    "optimizer": 5,
}
"""How many requests of canaries each capability takes at least."""
