"""What an identity provider changes by SCIM, and what that means for access."""

from typing import Any

import httpx
import pytest

from shoal import Client, Unauthenticated
from shoal.testing import wait_until

from .conftest import GROUP, USER, Provider, scim_error


def whoami(client: Client) -> dict[str, Any]:
    return client.platform.whoami()  # type: ignore[no-any-return]


def is_refused(client: Client) -> bool:
    try:
        whoami(client)
    except Unauthenticated:
        return True
    return False


def audit(provider: Provider) -> list[dict[str, Any]]:
    client = provider.app.client(provider.tenant, "admin")
    entries: list[dict[str, Any]] = client.platform.list_audit(limit=100)["entries"]
    return entries


def test_a_user_is_created_read_and_found(provider: Provider) -> None:
    created = provider.create(
        "ana",
        externalId="7",
        displayName="Ana Ray",
        name={"givenName": "Ana"},
        emails=[{"value": "ana@example.com", "type": "work", "primary": True}],
        title="ignored, as Shoal has no use for it",
        active=True,
    )
    assert created["meta"]["location"].endswith(f"/platform/scim/v2/Users/{created['id']}")
    response = provider.get(f"/Users/{created['id']}")
    assert response.json() == created and "title" not in created
    assert response.headers["etag"] == created["meta"]["version"]
    for condition in (
        'userName eq "ana"',
        'externalId eq "7"',
        f'id eq "{created["id"]}"',
        'userName sw "an" and active eq true',
        'emails[type eq "work"].value eq "ana@example.com"',
        'name.givenName co "n" and not (displayName eq "Bob")',
        'meta.created gt "2020-01-01T00:00:00Z"',
    ):
        found = provider.get("/Users", params={"filter": condition})
        assert found.json()["totalResults"] == 1, (condition, found.text)
        assert found.json()["Resources"] == [created]
    for condition in ('userName eq "Ana"', 'externalId eq "8"', "not (active eq true)"):
        assert provider.get("/Users", params={"filter": condition}).json()["totalResults"] == 0


def test_users_are_listed_in_pages(provider: Provider) -> None:
    names = [f"user-{i:03}" for i in range(25)]
    for name in reversed(names):
        provider.create(name)
    seen: list[str] = []
    while len(seen) < 25:
        page = provider.get("/Users", params={"startIndex": len(seen) + 1, "count": 10}).json()
        assert page["totalResults"] == 25 and page["itemsPerPage"] == len(page["Resources"])
        seen += [user["userName"] for user in page["Resources"]]
    assert seen == names
    assert provider.get("/Users", params={"startIndex": 26}).json().get("Resources", []) == []
    assert provider.get("/Users", params={"count": 0}).json()["totalResults"] == 25
    only = provider.get("/Users", params={"attributes": "userName", "count": 1}).json()
    assert set(only["Resources"][0]) == {"schemas", "id", "userName"}


def test_a_user_is_created_only_once(provider: Provider) -> None:
    provider.create("ana", externalId="7")
    scim_error(
        provider.post("/Users", json={"schemas": [USER], "userName": "ana"}), 409, "uniqueness"
    )
    taken = {"schemas": [USER], "userName": "bob", "externalId": "7"}
    scim_error(provider.post("/Users", json=taken), 409, "uniqueness")


def test_a_deactivated_user_loses_access(provider: Provider) -> None:
    ana = provider.create("ana", active=True)
    own = provider.app.client(provider.tenant, "reader", "ana")
    service = Client(provider.app.address, provider.app.key(provider.tenant), user="ana", retries=0)
    others = provider.app.client(provider.tenant, "reader", "bob")
    for client in (own, service, others):
        whoami(client)
    response = provider.change(
        f"/Users/{ana['id']}", {"op": "replace", "path": "active", "value": False}
    )
    assert response.json()["active"] is False
    for client in (own, service):
        wait_until(lambda client=client: is_refused(client))  # type: ignore[misc]
    whoami(others)
    left_out = {"schemas": [USER], "userName": "ana", "displayName": "Ana"}
    assert provider.put(f"/Users/{ana['id']}", json=left_out).json()["active"] is False
    provider.change(f"/Users/{ana['id']}", {"op": "replace", "value": {"active": True}})
    for client in (own, service):
        wait_until(lambda client=client: not is_refused(client))  # type: ignore[misc]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "Replace", "path": "active", "value": "False"},  # Microsoft Entra's older form
        {"op": "replace", "value": {"active": False}},  # Okta's
        {"op": "add", "path": "active", "value": False},
        {
            "op": "replace",
            "path": "urn:ietf:params:scim:schemas:core:2.0:User:active",
            "value": False,
        },
    ],
    ids=str,
)
def test_every_form_of_deactivation_is_understood(provider: Provider, operation: Any) -> None:
    ana = provider.create("ana", active=True)
    response = provider.change(f"/Users/{ana['id']}", operation)
    assert response.status_code == 200, response.text
    assert response.json()["active"] is False


@pytest.mark.parametrize(
    "operation",
    [
        {"op": op, **target}
        for op in ("add", "replace")
        for target in ({"path": "active", "value": None}, {"value": {"active": None}})
    ]
    + [{"op": "remove", "path": "active"}, {"op": "replace", "path": "active", "value": ""}],
    ids=str,
)
def test_only_true_lets_a_deactivated_user_in(provider: Provider, operation: Any) -> None:
    ana = provider.create("ana", active=False)
    assert provider.change(f"/Users/{ana['id']}", operation).status_code in (200, 400)
    assert provider.get(f"/Users/{ana['id']}").json()["active"] is False


def test_active_that_is_removed_leaves_the_user_in(provider: Provider) -> None:
    ana = provider.create("ana", active=True)
    removed = provider.change(f"/Users/{ana['id']}", {"op": "remove", "path": "active"})
    assert removed.status_code == 200
    assert "active" not in removed.json()
    assert "active" not in provider.get(f"/Users/{ana['id']}").json()
    whoami(provider.app.client(provider.tenant, "reader", "ana"))


def test_a_path_that_selects_no_email_adds_one(provider: Provider) -> None:
    ana = provider.create("ana", emails=[{"value": "ana@x.com", "type": "work"}])
    path = 'emails[type eq "home"].value'
    operation = {"op": "replace", "path": path, "value": "ana@home.com"}
    emails = provider.change(f"/Users/{ana['id']}", operation).json()["emails"]
    assert emails[1:] == [{"type": "home", "value": "ana@home.com"}]


def test_a_deleted_user_loses_keys_boards_and_access(provider: Provider) -> None:
    ana, bob = provider.create("ana"), provider.create("bob")
    board = provider.create_group("plans", ana, bob)
    own = provider.app.client(provider.tenant, "reader", "ana")
    whoami(own)
    assert provider.delete(f"/Users/{ana['id']}").status_code == 204
    wait_until(lambda: is_refused(own))
    scim_error(provider.get(f"/Users/{ana['id']}"), 404)
    members = provider.get(f"/Groups/{board['id']}").json()["members"]
    assert [member["value"] for member in members] == [bob["id"]]
    keys = provider.app.client(provider.tenant, "admin").platform.list_keys(id=provider.tenant)
    assert "ana" not in [key["user"] for key in keys["keys"]]
    provider.create("ana")  # with a new key, and no boards, ana may come in again
    _, key = provider.app.run(
        provider.app.platform.directory.create_key(provider.tenant, "reader", "ana")
    )
    wait_until(lambda: not is_refused(Client(provider.app.address, key, retries=0)))
    assert provider.get(f"/Users/{ana['id']}?attributes=groups").json().get("groups", []) == []


def test_a_group_is_a_board(provider: Provider) -> None:
    ana, bob = provider.create("ana"), provider.create("bob")
    service = provider.app.client(provider.tenant)
    board = provider.create_group("plans", ana)
    assert service.platform.get_members(board="plans")["users"] == ["ana"]
    provider.change(
        f"/Groups/{board['id']}", {"op": "add", "path": "members", "value": [{"value": bob["id"]}]}
    )
    assert service.platform.get_members(board="plans")["users"] == ["ana", "bob"]
    one = f'members[value eq "{ana["id"]}"]'
    provider.change(f"/Groups/{board['id']}", {"op": "remove", "path": one})
    assert service.platform.get_members(board="plans")["users"] == ["bob"]
    entra = {"op": "Remove", "path": "members", "value": [{"value": bob["id"]}]}
    provider.change(f"/Groups/{board['id']}", entra)
    assert service.platform.get_members(board="plans")["users"] == []
    body = {"schemas": [GROUP], "displayName": "plans", "members": [{"value": ana["id"]}]}
    assert provider.put(f"/Groups/{board['id']}", json=body).status_code == 200
    assert service.platform.get_members(board="plans")["users"] == ["ana"]
    groups = provider.get(f"/Users/{ana['id']}?attributes=groups").json()["groups"]
    assert groups == [{"value": board["id"], "display": "plans"}]
    assert provider.delete(f"/Groups/{board['id']}").status_code == 204
    scim_error(provider.get(f"/Groups/{board['id']}"), 404)


def test_boards_of_the_product_are_groups_too(provider: Provider) -> None:
    service = provider.app.client(provider.tenant)
    service.platform.put_members(board="roadmap", users=["zoe"])
    found = provider.get("/Groups", params={"filter": 'displayName eq "roadmap"'}).json()
    (group,) = found["Resources"]
    ana = provider.create("ana")
    provider.change(
        f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": [{"value": ana["id"]}]}
    )
    assert service.platform.get_members(board="roadmap")["users"] == ["ana", "zoe"]
    without = provider.get("/Groups", params={"excludedAttributes": "members"}).json()
    assert "members" not in without["Resources"][0]
    scim_error(
        provider.post("/Groups", json={"schemas": [GROUP], "displayName": "roadmap"}),
        409,
        "uniqueness",
    )


def test_groups_are_found_by_their_members(provider: Provider) -> None:
    ana, bob = provider.create("ana"), provider.create("bob")
    plans, roadmap = provider.create_group("plans", ana), provider.create_group("roadmap", ana, bob)
    for condition, expected in (
        (f'members.value eq "{bob["id"]}"', [roadmap]),
        (f'members[value eq "{ana["id"]}"]', [plans, roadmap]),
        (f'id eq "{plans["id"]}" and members.value eq "{ana["id"]}"', [plans]),  # Entra's question
        (f'id eq "{plans["id"]}" and members.value eq "{bob["id"]}"', []),
        ('displayName sw "road"', [roadmap]),
    ):
        found = provider.get("/Groups", params={"filter": condition}).json()
        assert (found["totalResults"], found["Resources"]) == (len(expected), expected), condition
    scim_error(provider.get("/Groups", params={"filter": 'members.value co "a"'}), 400)


def test_one_operation_changes_members_and_the_external_id(provider: Provider) -> None:
    ana, bob = provider.create("ana"), provider.create("bob")
    board = provider.create_group("plans", ana)
    value = {"externalId": "7", "members": [{"value": bob["id"]}]}
    changed = provider.change(f"/Groups/{board['id']}", {"op": "add", "value": value}).json()
    assert changed["externalId"] == "7" and len(changed["members"]) == 2
    replaced = provider.change(
        f"/Groups/{board['id']}", {"op": "replace", "value": value | {"externalId": "8"}}
    )
    assert [member["value"] for member in replaced.json()["members"]] == [bob["id"]]
    assert replaced.json()["externalId"] == "8"


def test_a_group_of_ten_thousand_is_changed_in_one_request(provider: Provider) -> None:
    users = [f"user-{i:05}" for i in range(10_000)]
    service = provider.app.client(provider.tenant)
    service.platform.put_members(board="all", users=users)
    (group,) = provider.get("/Groups", params={"filter": 'displayName eq "all"'}).json()[
        "Resources"
    ]
    ids = [member["value"] for member in group["members"]]
    removals = [{"op": "remove", "path": f'members[value eq "{one}"]'} for one in ids[:9_000]]
    changed = provider.change(f"/Groups/{group['id']}", *removals)
    assert len(changed.json()["members"]) == 1_000
    assert service.platform.get_members(board="all")["users"] == users[9_000:]
    everyone = {"op": "remove", "path": "members", "value": [{"value": one} for one in ids]}
    assert "members" not in provider.change(f"/Groups/{group['id']}", everyone).json()


def test_changes_are_audited_with_the_members(provider: Provider) -> None:
    ana, bob = provider.create("ana"), provider.create("bob")
    board = provider.create_group("plans", ana)
    path = f"/Groups/{board['id']}"
    body = {"schemas": [GROUP], "displayName": "plans", "members": [{"value": bob["id"]}]}
    provider.put(path, json=body)
    provider.change(f"/Users/{bob['id']}", {"op": "replace", "path": "active", "value": False})
    provider.app.client(provider.tenant).platform.put_members(board="plans", users=["zoe"])
    wanted = [
        ("PUT /platform/boards/{board}/members", ["+zoe", "-bob"]),
        ("PATCH /platform/scim/v2/Users/{id}", ["-bob"]),
        ("PUT /platform/scim/v2/Groups/{id}", ["+bob", "-ana"]),
        ("POST /platform/scim/v2/Groups", ["+ana"]),
        ("POST /platform/scim/v2/Users", ["+bob"]),
        ("POST /platform/scim/v2/Users", ["+ana"]),
    ]
    entries = wait_until(lambda: found if len(found := audit(provider)) >= 6 else None, 10)
    assert [(entry["action"], entry["changes"]) for entry in entries[:6]] == wanted
    assert all(entry["credential"].startswith("key:") for entry in entries)


def test_a_stale_version_is_refused(provider: Provider) -> None:
    ana = provider.create("ana")
    old = ana["meta"]["version"]
    body = {"schemas": [USER], "userName": "ana", "displayName": "Ana"}
    changed = provider.put(f"/Users/{ana['id']}", json=body, headers={"if-match": old})
    assert changed.status_code == 200 and changed.headers["etag"] != old
    for response in (
        provider.put(f"/Users/{ana['id']}", json=body, headers={"if-match": old}),
        provider.change(
            f"/Users/{ana['id']}",
            {"op": "replace", "path": "displayName", "value": "A"},
            headers={"if-match": old},
        ),
        provider.delete(f"/Users/{ana['id']}", headers={"if-match": old}),
    ):
        scim_error(response, 412)
    known = {"if-none-match": changed.headers["etag"]}
    assert provider.get(f"/Users/{ana['id']}", headers=known).status_code == 304
    board = provider.create_group("plans", ana)
    stale = {"if-match": board["meta"]["version"]}
    provider.change(f"/Groups/{board['id']}", {"op": "remove", "path": "members"})
    scim_error(provider.delete(f"/Groups/{board['id']}", headers=stale), 412)


def test_another_tenants_ids_are_not_found(provider: Provider, other: Provider) -> None:
    ana = provider.create("ana")
    board = provider.create_group("plans", ana)
    for response in (
        other.get(f"/Users/{ana['id']}"),
        other.put(f"/Users/{ana['id']}", json={"schemas": [USER], "userName": "ana"}),
        other.change(f"/Users/{ana['id']}", {"op": "replace", "path": "active", "value": False}),
        other.delete(f"/Users/{ana['id']}"),
        other.get(f"/Groups/{board['id']}"),
        other.put(f"/Groups/{board['id']}", json={"schemas": [GROUP], "displayName": "plans"}),
        other.change(f"/Groups/{board['id']}", {"op": "remove", "path": "members"}),
        other.delete(f"/Groups/{board['id']}"),
    ):
        scim_error(response, 404)
    assert other.get("/Users").json()["totalResults"] == 0
    assert other.get("/Groups").json()["totalResults"] == 0
    foreign = {"schemas": [GROUP], "displayName": "x", "members": [{"value": ana["id"]}]}
    scim_error(other.post("/Groups", json=foreign), 400, "invalidValue")
    assert provider.get(f"/Users/{ana['id']}").json() == ana


def test_only_an_admin_of_the_tenant_may_provision(provider: Provider) -> None:
    for role, user in (("reader", None), ("editor", None), ("editor", "ana")):
        key = provider.app.key(provider.tenant, role, user)
        response = provider.get("/Users", headers={"authorization": f"Bearer {key}"})
        assert response.status_code == 403
    with httpx.Client(base_url=provider.http.base_url) as nobody:
        assert nobody.get("/Users").status_code == 401
