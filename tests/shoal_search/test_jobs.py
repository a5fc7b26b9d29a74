"""The index anew from the log. Ray Data's part, the embedding, is left to the cluster
tests: here this process does it.
"""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal.eventlog import redis_log
from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores.configuration import StoreConfig
from shoal.tenants.erasure import erase_data
from shoal.testing import CapabilityApp
from shoal_search import jobs
from shoal_search.embedder import EmbeddedItem, Embedder
from shoal_search.items import Item
from shoal_search.parameters import SearchSettings
from shoal_search.states import State, Version
from shoal_search.writer import Writer

Make = Callable[..., dict[str, Any]]
Embedded = Iterator[dict[str, EmbeddedItem]]


@pytest.fixture
def app(shoal_app: Any, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> CapabilityApp:
    def embed_items(items: list[Item], *_: Any) -> Embedded:
        texts = [(item.title, item.text) for item in items]
        yield {i.id: made for i, made in zip(items, embedder.embed_items(texts), strict=True)}

    monkeypatch.setattr(jobs, "embed_items", embed_items)
    return shoal_app("search")


@pytest.fixture
def tenant(app: CapabilityApp, config: StoreConfig) -> Iterator[str]:
    name = f"acme-{secrets.token_hex(4)}"
    yield name
    app.run(erase_data(config, name))


def found(app: CapabilityApp, tenant: str, q: str = "the sign-in form") -> dict[str, str]:
    return {hit["id"]: hit["snippet"] for hit in app.client(tenant).search.search(q=q)["hits"]}


def test_archive_and_live_log_give_each_items_last_state(
    app: CapabilityApp, config: StoreConfig, tenant: str, item: Make
) -> None:
    search = app.client(tenant).search
    search.add_items(body=[item("1", "old"), item("2", "gone"), item("3", "kept")])
    app.run(RedisEventLog(config).archive(tenant, timedelta(0)))
    assert app.run(app.context(tenant, "search").stores.events.length()) < 3
    search.add_items(body=[item("1", "new")])
    search.delete_item(id="2")
    before = found(app, tenant)
    app.run(app.context(tenant, "search").stores.vectors.drop(SearchSettings().collection))
    result, run = app.job("search.reindex", tenant, fresh=True)
    assert result == {"items": 2, "tenants": {tenant: 2}}
    assert found(app, tenant) == before == {"1": "new", "3": "kept"}
    assert run.steps[-1][:2] == (3, 3)


@pytest.mark.parametrize("fresh", [False, True])
def test_what_changes_while_it_runs_is_not_undone(
    app: CapabilityApp, tenant: str, item: Make, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    search = app.client(tenant).search
    search.add_items(body=[item("1", "old"), item("2", "gone"), item("3", "kept")])
    app.run(app.context(tenant, "search").stores.vectors.drop(SearchSettings().collection))
    embed_items = jobs.embed_items

    def meanwhile(items: list[Item], *_: Any) -> Embedded:
        assert sorted(item.id for item in items) == ["1", "2", "3"]
        search.add_items(body=[item("1", "new"), item("2", "there"), item("4", "added")])
        search.delete_item(id="2")
        yield from embed_items(items)

    monkeypatch.setattr(jobs, "embed_items", meanwhile)
    app.job("search.reindex", tenant, fresh=fresh)
    assert found(app, tenant) == {"1": "new", "3": "kept", "4": "added"}


def test_only_a_fresh_run_writes_what_is_indexed(
    app: CapabilityApp, tenant: str, item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.client(tenant).search.add_items(body=[item("1", "one"), item("2", "two")])
    embed_items, embedded = jobs.embed_items, list[str]()

    def noted(items: list[Item], *_: Any) -> Embedded:
        embedded.extend(item.id for item in items)
        yield from embed_items(items)

    monkeypatch.setattr(jobs, "embed_items", noted)
    app.job("search.reindex", tenant)
    assert embedded == []
    app.job("search.reindex", tenant, fresh=True)
    app.job("search.reindex", tenant)
    assert sorted(embedded) == ["1", "2"]
    assert found(app, tenant) == {"1": "one", "2": "two"}


def test_a_fresh_run_drops_what_was_never_logged(
    app: CapabilityApp, tenant: str, item: Make
) -> None:
    ctx = app.context(tenant, "search")
    stray = Item.model_validate(item("stray"))
    writer = Writer(SearchSettings(), ctx.services.backend("embedder").embed)
    app.run(writer.write(ctx, [State("stray", Version.of(stray.updated_at, "1-0"), stray)]))
    app.client(tenant).search.add_items(body=[item("1", "logged")])
    app.job("search.reindex", tenant)
    assert set(found(app, tenant)) == {"1", "stray"}
    app.job("search.reindex", tenant, fresh=True)
    assert found(app, tenant) == {"1": "logged"}


def test_a_deletion_is_remembered_while_the_log_has_it(
    app: CapabilityApp, config: StoreConfig, tenant: str, item: Make
) -> None:
    search, ctx = app.client(tenant).search, app.context(tenant, "search")
    writer = Writer(SearchSettings(), ctx.services.backend("embedder").embed)
    search.add_items(body=[item("1")])
    search.delete_item(id="1")
    app.job("search.reindex", tenant)
    assert app.run(writer.versions(ctx, ["1"]))
    app.run(redis_log.erase(config, tenant))
    later = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    search.add_items(body=[item("2", updated_at=later)])
    app.job("search.reindex", tenant)
    assert app.run(writer.versions(ctx, ["1"])) == {}


def test_a_tenant_without_a_log_has_nothing_to_index(app: CapabilityApp, tenant: str) -> None:
    assert app.job("search.reindex", tenant)[0] == {"items": 0, "tenants": {tenant: 0}}
