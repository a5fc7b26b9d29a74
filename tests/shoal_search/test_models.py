"""From one model to another, with two small ones at endpoints."""

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from shoal import Conflict, Egress, Invalid, NotFound, Unavailable
from shoal.stores.configuration import StoreConfig
from shoal.tenants.erasure import erase_data
from shoal.testing import CapabilityApp
from shoal_search import jobs
from shoal_search.embedder import EmbeddedItem, Embedder
from shoal_search.indexes import SERVING, Indexes
from shoal_search.items import Item
from shoal_search.parameters import SearchSettings

from .embedding_server import EmbeddingServer

pytestmark = pytest.mark.integration
Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer("sk-of-a-test") as server:
        yield server


@pytest.fixture
def app(shoal_app: Any, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> CapabilityApp:
    """Search with two models; they have different dimensions."""
    monkeypatch.setenv("EMBEDDING_KEY", server.key)
    monkeypatch.setattr(jobs, "embed_items", embed_in_this_process)
    named = {"endpoint": server.endpoint, "key": "EMBEDDING_KEY"}
    models = {
        "small": {**named, "model": "s", "dimensions": 16},
        "large": {**named, "model": "l", "dimensions": 48},
    }
    settings = {"search": {"model": "small", "models": models}}
    made: CapabilityApp = shoal_app("search", settings=settings)
    return made


def embed_in_this_process(
    items: list[Item], settings: SearchSettings, egress: Egress
) -> Iterator[dict[str, EmbeddedItem]]:
    """Without Ray Data, in several parts."""
    embedder = Embedder(settings, egress)
    for start in range(0, len(items), 7):
        some = items[start : start + 7]
        made = embedder.embed_items([(item.title, item.text) for item in some])
        yield {item.id: one for item, one in zip(some, made, strict=True)}


@pytest.fixture
def tenant(config: StoreConfig, app: CapabilityApp) -> Iterator[str]:
    name = f"acme-{secrets.token_hex(4)}"
    yield name
    app.run(erase_data(config, name))


def indexed(app: CapabilityApp, tenant: str) -> dict[str, str]:
    """The text of every item in the index that is searched."""
    ctx = app.context(tenant, "search")
    collection = app.run(Indexes(ctx.services).serving(ctx)).collection
    page = app.run(ctx.stores.vectors.rows(collection, limit=1_000, fields=["body"]))
    return {row["id"]: row["body"] for row in page.rows}


def has_only(app: CapabilityApp, tenant: str, model: str) -> bool:
    """Whether the index of a model is the only one."""
    ctx = app.context(tenant, "search")
    collection = ctx.services.settings(SearchSettings).using(model).collection
    return list(app.run(ctx.stores.vectors.names())) == [collection]


def fixed_answer(search: Any) -> list[tuple[str, float]]:
    """Hits among items that do not change, with a part of their score."""
    hits = search.search(q="common text", board=["fixed"], limit=50)["hits"]
    return sorted((hit["id"], round(hit["scores"]["semantic"], 5)) for hit in hits)


def change_and_check(search: Any, item: Make, seed: int, expected: dict[str, str]) -> None:
    """Write and delete; whatever was acknowledged is read at once."""
    id = str(seed % 30)
    if seed % 4 == 3 and id in expected:
        search.delete_item(id=id)
        del expected[id]
        with pytest.raises(NotFound):
            search.get_item(id=id)
    else:
        expected[id] = f"the text of {seed}"
        # An item from before its deletion would stay away.
        new = item(id, expected[id], updated_at=datetime.now(UTC).isoformat())
        assert search.add_items(body=[new])["indexed"] == 1
        assert search.get_item(id=id)["text"] == expected[id]


def test_switch_loses_no_change_and_fails_no_search(
    app: CapabilityApp, tenant: str, item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "DROP_SECONDS", 5.0)
    search, expected = app.client(tenant).search, dict[str, str]()
    fixed = [item(f"f{n}", f"common text {n}", board_id="fixed") for n in range(40)]
    search.add_items(body=fixed)
    for seed in range(20):
        change_and_check(search, item, seed, expected)
    before, answers, done = fixed_answer(search), list[Any](), threading.Event()

    def write() -> None:
        client = app.client(tenant).search
        for seed in count(20):
            change_and_check(client, item, seed, expected)
            if done.is_set():
                return

    def ask() -> None:
        client = app.client(tenant).search
        while not done.is_set():
            answers.append(fixed_answer(client))

    with ThreadPoolExecutor() as threads:
        running = [threads.submit(write), threads.submit(ask), threads.submit(ask)]
        try:
            app.job("search.reindex", tenant, model="large")
        finally:
            done.set()
        for one in running:
            one.result()
    after = fixed_answer(search)
    assert [id for id, _ in after] == [id for id, _ in before] and after != before
    assert before in answers and after in answers
    assert all(answer in (before, after) for answer in answers)
    expected |= {row["id"]: row["text"] for row in fixed}
    assert has_only(app, tenant, "large")
    assert indexed(app, tenant) == expected


def test_what_changes_last_before_the_switch_is_found_after_it(
    app: CapabilityApp, tenant: str, item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, switch = app.client(tenant).search, Indexes.switch
    search.add_items(body=[item("1", "old"), item("2", "gone"), item("3", "kept")])

    async def change_and_switch(*args: Any) -> None:
        await asyncio.to_thread(search.add_items, body=[item("1", "new"), item("4", "added")])
        await asyncio.to_thread(search.delete_item, id="2")
        await switch(*args)

    monkeypatch.setattr(jobs, "DROP_SECONDS", 0.0)
    monkeypatch.setattr(Indexes, "switch", change_and_switch)
    app.job("search.reindex", tenant, model="large")
    assert has_only(app, tenant, "large")
    assert indexed(app, tenant) == {"1": "new", "3": "kept", "4": "added"}


@pytest.mark.parametrize("killed_in", ["embed_items", "switch", "drop_others"])
def test_a_killed_run_leaves_a_whole_index_and_goes_on(
    app: CapabilityApp,
    tenant: str,
    item: Make,
    monkeypatch: pytest.MonkeyPatch,
    killed_in: str,
) -> None:
    search, expected = app.client(tenant).search, dict[str, str]()
    monkeypatch.setattr(jobs, "DROP_SECONDS", 0.0)
    for seed in range(20):
        change_and_check(search, item, seed, expected)

    def kill(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def kill_later(*args: Any) -> Iterator[dict[str, EmbeddedItem]]:
        yield next(embed_in_this_process(*args))
        kill()

    async def nothing(*_: Any) -> None:
        """What is killed tidies nothing up."""

    with monkeypatch.context() as patched:
        patched.setattr(Indexes, "withdraw", nothing)
        if killed_in == "embed_items":
            patched.setattr(jobs, "embed_items", kill_later)
        else:
            patched.setattr(Indexes if killed_in == "switch" else jobs, killed_in, kill)
        with pytest.raises(KeyboardInterrupt):
            app.job("search.reindex", tenant, model="large")
    for seed in range(20, 40):
        change_and_check(search, item, seed, expected)
    assert indexed(app, tenant) == expected
    app.job("search.reindex", tenant, model="large")
    assert has_only(app, tenant, "large")
    for seed in range(40, 50):
        change_and_check(search, item, seed, expected)
    assert indexed(app, tenant) == expected
    app.job("search.reindex", tenant, model="small")
    assert has_only(app, tenant, "small")
    assert indexed(app, tenant) == expected


def test_a_run_that_another_overtook_does_not_switch(app: CapabilityApp, tenant: str) -> None:
    ctx = app.context(tenant, "search")
    indexes = Indexes(ctx.services)
    app.run(indexes.offer(ctx, "large"))
    app.run(indexes.offer(ctx, "small"))
    with pytest.raises(Conflict, match="Run it again"):
        app.run(indexes.switch(ctx, "large"))
    assert app.run(indexes.serving(ctx)).model == "small"


def test_a_served_model_that_is_not_configured_is_named(app: CapabilityApp, tenant: str) -> None:
    ctx = app.context(tenant, "search")
    app.run(ctx.stores.online.set(SERVING, "former"))
    with pytest.raises(Unavailable, match=r"'former'.*capabilities\.search\.models"):
        app.client(tenant).search.search(q="text")


def test_only_a_configured_model_is_taken(app: CapabilityApp, tenant: str) -> None:
    with pytest.raises(Invalid, match="configured are large, small"):
        app.job("search.reindex", tenant, model="/etc/some/folder")
