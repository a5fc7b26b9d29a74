"""From one model to another, with two small ones at endpoints."""

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shoal import Egress, Invalid
from shoal.stores.configuration import StoreConfig
from shoal.tenants.erasure import erase_data
from shoal.testing import CapabilityApp
from shoal_search import jobs
from shoal_search.embedder import EmbeddedItem, Embedder
from shoal_search.items import Item
from shoal_search.parameters import SearchSettings

from .embedding_server import EmbeddingServer

pytestmark = pytest.mark.integration
Make = Callable[..., dict[str, Any]]
Opener = Callable[[str], CapabilityApp]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer("sk-of-a-test") as server:
        yield server


@pytest.fixture
def open_app(
    shoal_app: Any, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opener]:
    """Search with one of two models; they have different dimensions."""
    monkeypatch.setenv("EMBEDDING_KEY", server.key)
    monkeypatch.setattr(jobs, "embed_items", embed_in_this_process)

    def open_with(model: str) -> CapabilityApp:
        named = {"endpoint": server.endpoint, "key": "EMBEDDING_KEY"}
        models = {
            "small": {**named, "model": "s", "dimensions": 16},
            "large": {**named, "model": "l", "dimensions": 48},
        }
        app: CapabilityApp = shoal_app(
            "search", settings={"search": {"model": model, "models": models}}
        )
        return app

    yield open_with


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
def tenant(config: StoreConfig, open_app: Opener) -> Iterator[str]:
    name = f"acme-{secrets.token_hex(4)}"
    yield name
    open_app("small").run(erase_data(config, name))


def indexed(app: CapabilityApp, tenant: str) -> dict[str, str]:
    """The text of every item in the index that an application searches."""
    ctx = app.context(tenant, "search")
    collection = ctx.services.settings(SearchSettings).collection
    page = app.run(ctx.stores.vectors.rows(collection, limit=1_000, fields=["body"]))
    return {row["id"]: row["body"] for row in page.rows}


def test_other_model_is_indexed_beside_and_loses_no_change(
    open_app: Opener, tenant: str, item: Make
) -> None:
    old, expected = open_app("small"), dict[str, str]()
    search = old.client(tenant).search

    def change(seed: int) -> None:
        for n in range(seed, seed + 20):
            id = str(n % 30)
            if n % 4 == 3 and id in expected:
                search.delete_item(id=id)
                del expected[id]
            else:
                expected[id] = f"the text of {n}"
                search.add_items(body=[item(id, expected[id])])

    change(0)
    writer = threading.Thread(target=change, args=(20,))
    writer.start()
    old.job("search.reindex", tenant, model="large")
    writer.join()
    assert indexed(old, tenant) == expected
    change(40)
    new = open_app("large")
    new.job("search.reindex", tenant, drop=True)
    assert indexed(new, tenant) == expected
    assert len(new.run(new.context(tenant, "search").stores.vectors.names())) == 1
    found = new.client(tenant).search.search(q="the text of 58", limit=1)["hits"]
    assert expected[found[0]["id"]] == "the text of 58"


def test_killed_run_goes_on_while_the_old_index_serves(
    open_app: Opener,
    tenant: str,
    item: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = open_app("small")
    rows = [item(str(n), f"the text of {n}") for n in range(20)]
    old.client(tenant).search.add_items(body=rows)

    def killed(*args: Any) -> Iterator[dict[str, EmbeddedItem]]:
        for number, some in enumerate(embed_in_this_process(*args)):
            if number == 1:
                raise KeyboardInterrupt
            yield some

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "embed_items", killed)
        with pytest.raises(KeyboardInterrupt):
            old.job("search.reindex", tenant, model="large")
    expected = {row["id"]: row["text"] for row in rows}
    assert indexed(old, tenant) == expected
    embedded: list[str] = []

    def noted(items: list[Item], *args: Any) -> Iterator[dict[str, EmbeddedItem]]:
        embedded.extend(item.id for item in items)
        yield from embed_in_this_process(items, *args)

    monkeypatch.setattr(jobs, "embed_items", noted)
    old.job("search.reindex", tenant, model="large")
    assert len(embedded) == 13
    assert indexed(open_app("large"), tenant) == expected


def test_only_a_configured_model_is_taken(open_app: Opener, tenant: str) -> None:
    with pytest.raises(Invalid, match="configured are large, small"):
        open_app("small").job("search.reindex", tenant, model="/etc/some/folder")
    with pytest.raises(Invalid, match="together with model"):
        open_app("small").job("search.reindex", tenant, model="large", drop=True)
