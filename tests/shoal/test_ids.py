"""Whatever id an operation accepts can be read, listed and deleted by it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal import Client, Invalid, NotFound

CAPABILITIES = ("search", "features", "anomalies", "experiments", "optimizer")
HOSTILE = [
    *("a/b", "/", "//", "/a", "a/", "../a", "a/../b", "./a", "a/.", ".", "..", "...", ".a"),
    *("%2F", "%2f", "%252F", "%25", "%", "%zz", "a%", "%2e%2e", "?", "#", "a?b=c", "a#b", "&=+;"),
    *(
        " ",
        " a ",
        "\t",
        "\n",
        "\0",
        "\x7f",
        "\\",
        "..\\a",
        "ü",
        "日本語",
        "💥",
        "e\u0301",
        "\u2028",
    ),
    *(
        ":",
        "{id}",
        "{}",
        "*",
        "[a]",
        "'\"<b>",
        "~",
        "@",
        "a,b",
        "null",
        "-1",
        "1e999",
        "acknowledge",
    ),
    *("healthz", "openapi.json", "docs", "x" * 300, "é" * 300, "x" * 512, "x" * 513, ""),
]
TEXT = st.text(st.sampled_from("ab./%25?#&= \\ü💥:~\t"), max_size=6)


def is_id(id: str) -> bool:
    """The contract's definition, said once more."""
    return (
        0 < len(id) <= 512
        and id not in (".", "..")
        and not any(ord(c) < 32 or ord(c) == 127 for c in id)
    )


@dataclass(frozen=True)
class Resource:
    """How something with an id of the caller's choice is created, found and removed.

    Attributes:
        create: Creates it, and is true; or raises Invalid.
        read: The id, as the platform says it.
        listed: The ids of all.
        delete: Removes it.
        more: Other operations with that id in the path.
        any_id: Whether every id of the contract is accepted.
    """

    create: Callable[[Client, str], Any]
    read: Callable[[Client, str], Any] | None = None
    listed: Callable[[Client], Any] | None = None
    delete: Callable[[Client, str], Any] | None = None
    more: tuple[Callable[[Client, str], Any], ...] = ()
    any_id: bool = True


ITEM = {
    "board_id": "b",
    "type": "item",
    "title": "an item",
    "text": "with words",
    "updated_at": "2026-11-20T10:00:00Z",
}
TASK = {"estimated_hours": 4, "deadline": "2099-01-01T00:00:00Z"}
OUTCOME = {
    "people": ["ana"],
    "estimated_hours": 4,
    "actual_hours": 4,
    "finished_at": "2026-01-01T00:00:00Z",
}
HALVES = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]
DESIGN = {
    "hypothesis": "b is better",
    "variants": HALVES,
    "primary": {"name": "bought"},
    "minimum_effect": 0.1,
    "baseline": 0.2,
    "duration_days": 7,
}
WINDOW = {"from": "2026-11-20T10:00:00Z", "to": "2026-11-21T10:00:00Z"}
CHANNEL = {"type": "pagerduty", "routing_key": "x" * 32}
RULE = {"priority": "P3", "condition": "unusual"}


def accepted(answer: dict[str, Any]) -> bool:
    if answer["rejected"]:
        raise Invalid(answer["rejected"][0]["error"])
    return bool(answer["accepted"])


RESOURCES = {
    "search.items": Resource(
        create=lambda c, id: accepted(c.search.add_items(body=[{**ITEM, "id": id}])),
        listed=lambda c: [hit["id"] for hit in c.search.search(q="words", limit=200)["hits"]],
        delete=lambda c, id: c.search.delete_item(id=id),
    ),
    "search.files": Resource(
        create=lambda c, id: c.search.add_file(id=id, board_id="b", body=b"words")["id"] == id,
        read=lambda c, id: c.search.get_item(id=id)["id"],
        delete=lambda c, id: c.search.delete_item(id=id),
    ),
    "anomalies.rules": Resource(
        create=lambda c, id: c.anomalies.put_rule(id=id, body=RULE)["id"] == id,
        listed=lambda c: c.anomalies.list_rules()["rules"],
        delete=lambda c, id: c.anomalies.delete_rule(id=id),
    ),
    "anomalies.channels": Resource(
        create=lambda c, id: c.anomalies.put_channel(id=id, **CHANNEL)["id"] == id,
        listed=lambda c: c.anomalies.list_channels()["channels"],
        delete=lambda c, id: c.anomalies.delete_channel(id=id),
    ),
    "anomalies.maintenance": Resource(
        create=lambda c, id: c.anomalies.put_maintenance(id=id, body=WINDOW)["id"] == id,
        read=lambda c, id: c.anomalies.get_maintenance(id=id)["id"],
        listed=lambda c: c.anomalies.list_maintenance()["maintenance"],
        delete=lambda c, id: c.anomalies.delete_maintenance(id=id),
    ),
    "experiments": Resource(
        create=lambda c, id: c.experiments.draft(id=id, body=DESIGN)["id"] == id,
        read=lambda c, id: c.experiments.get(id=id)["id"],
        listed=lambda c: [e["id"] for e in c.experiments.list_experiments()["experiments"]],
        delete=lambda c, id: c.experiments.delete(id=id),
        more=(lambda c, id: c.experiments.assignment(id=id, unit="u"),),
        any_id=False,
    ),
    "optimizer.people": Resource(
        create=lambda c, id: accepted(c.optimizer.add_people(body=[{"id": id}])),
        read=lambda c, id: c.optimizer.get_person(id=id)["id"],
        listed=lambda c: [p["id"] for p in c.optimizer.list_people(limit=1000)["people"]],
        delete=lambda c, id: c.optimizer.delete_person(id=id),
        more=(lambda c, id: c.optimizer.put_person(id=id, body={}),),
    ),
    "optimizer.tasks": Resource(
        create=lambda c, id: c.optimizer.put_task(id=id, body=TASK)["id"] == id,
        read=lambda c, id: c.optimizer.get_task(id=id)["id"],
        listed=lambda c: [t["id"] for t in c.optimizer.list_tasks(limit=1000)["tasks"]],
        delete=lambda c, id: c.optimizer.delete_task(id=id),
        more=(
            lambda c, id: c.optimizer.candidates(id=id),
            lambda c, id: accepted(c.optimizer.add_tasks(body=[{**TASK, "id": id}])),
        ),
    ),
    "optimizer.outcomes": Resource(
        create=lambda c, id: c.optimizer.put_outcome(id=id, body=OUTCOME)["id"] == id,
        read=lambda c, id: c.optimizer.get_outcome(id=id)["id"],
        listed=lambda c: [o["id"] for o in c.optimizer.list_outcomes(limit=1000)["outcomes"]],
        delete=lambda c, id: c.optimizer.delete_outcome(id=id),
    ),
    "optimizer.scenarios": Resource(
        create=lambda c, name: c.optimizer.put_scenario(name=name, body={}),
        listed=lambda c: c.optimizer.list_scenarios()["scenarios"],
        delete=lambda c, name: c.optimizer.delete_scenario(name=name),
        more=(lambda c, name: c.optimizer.get_scenario(name=name),),
    ),
    "platform.boards": Resource(
        create=lambda c, id: c.platform.put_members(board=id, users=["ana"])["board"] == id,
        read=lambda c, id: c.platform.get_members(board=id)["board"],
    ),
    "platform.experiments": Resource(
        create=lambda c, id: (
            c.platform.put_experiment(id=id, body={"variants": HALVES})["id"] == id
        ),
        read=lambda c, id: c.platform.get_experiment(id=id)["id"],
        listed=lambda c: [e["id"] for e in c.platform.list_experiments()["experiments"]],
        delete=lambda c, id: c.platform.delete_experiment(id=id),
        any_id=False,
    ),
}


NAMES = {"put_limits", "put_parameters", "put_role"}
"""Their last segment is a capability's or role's name."""


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., Any]) -> Any:
    return shoal_app(*CAPABILITIES)


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[Client]:
    with app.client("ids", "admin") as client:
        yield client


def check(client: Client, resource: Resource, id: str) -> None:
    """An id is refused at once, or works everywhere."""
    try:
        assert resource.create(client, id)
    except Invalid:
        assert not (resource.any_id and is_id(id)), f"{id!r} is an id"
        return
    assert is_id(id), f"{id!r} is none"
    if resource.read:
        assert resource.read(client, id) == id
    for operation in resource.more:
        operation(client, id)
    if resource.listed:
        assert id in resource.listed(client)
    if resource.delete:
        resource.delete(client, id)
        if resource.listed:
            assert id not in resource.listed(client)
        with pytest.raises(NotFound):
            resource.delete(client, id)


@pytest.mark.parametrize("name", RESOURCES)
def test_an_accepted_id_works_everywhere(client: Client, name: str) -> None:
    for id in HOSTILE:
        check(client, RESOURCES[name], id)


@pytest.mark.parametrize("name", [name for name in RESOURCES if not name.startswith("search.")])
def test_any_text_is_refused_or_works_everywhere(client: Client, name: str) -> None:
    @settings(max_examples=25)
    @given(TEXT)
    def check_text(id: str) -> None:
        check(client, RESOURCES[name], id)

    check_text()


def test_every_operation_that_puts_an_id_is_here(client: Client) -> None:
    putting = {
        operation.id
        for capability in ("platform", *CAPABILITIES)
        for operation in client.operations(capability).values()
        if operation.method == "PUT" and operation.path.endswith("}")
    }
    used = {name for r in RESOURCES.values() for name in names_used(r)}
    assert putting <= used | NAMES


def names_used(resource: Resource) -> set[str]:
    """The operations that a resource's functions call."""
    functions = [resource.create, *resource.more]
    return {name for function in functions for name in function.__code__.co_names}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("%2E", 422),
        ("%2e%2E", 422),
        ("x" * 513, 422),
        ("%09", 400),
        ("%ff", 400),
        ("a%2Fb%252F", 200),
    ],
)
def test_the_platform_itself_refuses_what_is_no_id(app: Any, path: str, status: int) -> None:
    url = f"{app.address}/optimizer/people/{path}"
    headers = {"Authorization": f"Bearer {app.key('ids', 'admin')}"}
    answer = httpx.put(url, json={}, headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["id"] == unquote(path) == "a/b%2F"
    else:
        assert answer.headers["content-type"] == "application/problem+json"
