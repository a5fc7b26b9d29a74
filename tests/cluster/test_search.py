"""Search on the cluster: HTTP and the Ray client, events, permissions, parameters, the
job and the command.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal import Client, Forbidden, NotFound
from shoal.testing import wait_until

pytestmark = pytest.mark.cluster


def item(id: str, text: str, board: str = "b1", **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "board_id": board,
        "type": "item",
        "title": "",
        "text": text,
        "updated_at": "2026-11-20T10:00:00Z",
        **fields,
    }


def found(client: Client, q: str, **wanted: Any) -> list[str]:
    return [hit["id"] for hit in client.search.search(q=q, **wanted)["hits"]]


def test_two_tenants_find_only_their_own_items(platform: Any, tenants: Callable[[], str]) -> None:
    one, other = tenants(), tenants()
    with platform.client(one) as ours, platform.client(other) as theirs:
        ours.search.add_items(
            body=[
                item("1", "The automobile needs new tyres."),
                item("2", "A poem about the autumn."),
            ]
        )
        theirs.search.add_items(body=[item("1", "Our secret vehicle project.")])
        assert found(ours, "repair my vehicle") == ["1", "2"]
        assert "secret" not in json.dumps(ours.search.search(q="secret vehicle project"))
        with Client(platform.ray, platform.key(one)) as through_ray:
            assert found(through_ray, "repair my vehicle") == ["1", "2"]


def test_users_see_their_boards_and_readers_write_nothing(
    platform: Any, tenants: Callable[[], str]
) -> None:
    tenant = tenants()
    with platform.client(tenant) as service:
        service.search.add_items(body=[item("1", "plan", "open"), item("2", "plan", "closed")])
        service.platform.put_members(board="open", body={"users": ["ana"]})
    with platform.client(tenant, "reader", "ana") as ana:
        assert wait_until(lambda: found(ana, "plan")) == ["1"]
        with pytest.raises(NotFound):
            ana.search.search(q="plan", board=["closed"])
        with pytest.raises(Forbidden):
            ana.search.add_items(body=[item("3", "plan", "open")])
        assert len(ana.search.embed(texts=["plan"])["vectors"]) == 1


def test_events_reach_the_index(platform: Any, tenants: Callable[[], str]) -> None:
    with platform.client(tenants()) as client:
        events = [
            {
                "specversion": "1.0",
                "id": f"e{i}",
                "source": "app",
                "type": "item.created",
                "data": item(str(i), f"plan {i}"),
            }
            for i in range(3)
        ]
        events.append(
            {
                "specversion": "1.0",
                "id": "e9",
                "source": "app",
                "type": "item.deleted",
                "subject": "1",
            }
        )
        client.platform.append_events(body=events)
        wait_until(lambda: sorted(found(client, "plan")) == ["0", "2"])


def test_a_tenants_own_weights_change_the_order(platform: Any, tenants: Callable[[], str]) -> None:
    with platform.client(tenants()) as client:
        client.search.add_items(
            body=[
                item("new", "a poem about autumn", updated_at="2026-11-22T00:00:00Z"),
                item("old", "quarterly budget", updated_at="2020-01-01T00:00:00Z"),
            ]
        )
        assert found(client, "budget")[0] == "old"
        client.platform.put_parameters(
            capability="search",
            body={"semantic_weight": 0, "keyword_weight": 0, "recency_weight": 1},
        )
        wait_until(lambda: found(client, "budget")[0] == "new", seconds=10)


def test_the_index_is_rebuilt_from_the_log(platform: Any, tenants: Callable[[], str]) -> None:
    with platform.client(tenants()) as client:
        client.search.add_items(body=[item(str(i), f"plan {i}") for i in range(5)])
        client.search.delete_item(id="3")
        run = client.platform.run_job(name="search.reindex", body={"arguments": {"fresh": True}})
        done = wait_until(
            lambda: (
                (r := client.platform.get_run(id=run["id"]))["state"] in ("succeeded", "failed")
                and r
            ),
            seconds=180,
        )
        assert done["state"] == "succeeded", done["error"]
        assert done["result"]["items"] == 4
        assert sorted(found(client, "plan")) == ["0", "1", "2", "4"]


def test_the_command_loads_a_corpus(
    platform: Any, tenants: Callable[[], str], tmp_path: Path
) -> None:
    tenant, corpus = tenants(), tmp_path / "zoo" / "corpus.jsonl"
    corpus.parent.mkdir()
    corpus.write_text(
        '{"_id": "z", "title": "Zebras", "text": "They live on the savannah."}\n'
        '{"_id": "e", "title": "", "text": ""}\n'
    )
    answer = platform.shoal("search", "load", str(corpus.parent), "--tenant", tenant)
    assert answer["accepted"] == 1
    assert answer["rejected"] == [{"index": 1, "error": "text: is empty"}]
    with platform.client(tenant) as client:
        (hit,) = client.search.search(q="striped animals")["hits"]
        assert (hit["id"], hit["board_id"], hit["type"]) == ("z", "zoo", "doc")
