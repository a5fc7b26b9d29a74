"""The index anew from the log. Ray Data's part, the embedding, is left to the cluster
tests: here this process does it.
"""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores.configuration import StoreConfig
from shoal.tenants.erasure import erase_data
from shoal.testing import CapabilityApp
from shoal_search import jobs
from shoal_search.embedder import Embedder
from shoal_search.items import Item

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def app(shoal_app: Any, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> CapabilityApp:
    def embed_items(items: list[Item], settings: Any) -> Iterator[tuple[list[Item], np.ndarray]]:
        if items:
            yield items, embedder.encode([item.passage for item in items])

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
    app.run(RedisEventLog(config).archive(tenant))
    search.add_items(body=[item("1", "new")])
    search.delete_item(id="2")
    before = found(app, tenant)
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
    embed_items, rounds = jobs.embed_items, []

    def meanwhile(items: list[Item], settings: Any) -> Iterator[tuple[list[Item], np.ndarray]]:
        rounds.append(sorted(item.id for item in items))
        if len(rounds) == 1:
            search.add_items(body=[item("1", "new"), item("4", "added")])
            if not fresh:
                search.delete_item(id="2")
        yield from embed_items(items, settings)

    monkeypatch.setattr(jobs, "embed_items", meanwhile)
    result, _ = app.job("search.reindex", tenant, fresh=fresh)
    assert rounds == [["1", "2", "3"], ["1"]]
    assert found(app, tenant)["1"] == "new"
    assert set(found(app, tenant)) == ({"1", "2", "3", "4"} if fresh else {"1", "3", "4"})
    assert result["items"] == (3 if fresh else 2)


def test_a_tenant_without_a_log_has_nothing_to_index(app: CapabilityApp, tenant: str) -> None:
    assert app.job("search.reindex", tenant)[0] == {"items": 0, "tenants": {tenant: 0}}
