"""Hostile requests to the SCIM service: none is a 5xx, and none changes anything."""

from typing import Any

import pytest

from .conftest import GROUP, PATCH, USER, Provider, scim_error

DEEP: Any = "x"
for _ in range(500):
    DEEP = {"a": DEEP}

FILTERS = {
    "of a megabyte": 'userName eq "' + "a" * 5000 + '"',
    "deeply nested": "(" * 480 + 'userName eq "a"' + ")" * 480,
    "of many terms": " or ".join(["a pr"] * 150),
    "without value": "userName eq",
    "without operator": 'userName "a"',
    "unknown operator": 'userName like "a"',
    "unknown attribute": 'shoeSize eq "44"',
    "unknown sub-attribute": 'name.shoe eq "44"',
    "not closed": 'userName eq "a',
    "brackets not closed": 'emails[type eq "work"',
    "other type": "userName eq 7",
    "ordering of a boolean": "active gt true",
    "NUL": 'userName eq "a\\u0000"',
    "injection": '" or 1 eq 1 or userName eq "',
    "a number of a thousand digits": "userName eq " + "9" * 900,
    "another schema": 'urn:ietf:params:scim:schemas:core:2.0:Group:displayName eq "a"',
    "password": 'password eq "a"',
    "negations": "not (" * 150 + "active pr" + ")" * 150,
}
OPERATIONS: dict[str, Any] = {
    "no operations": [],
    "operations that are an object": {},
    "an operation that is text": ["replace"],
    "null": [None],
    "no op": [{"path": "active", "value": True}],
    "unknown op": [{"op": "move", "path": "active"}],
    "unknown path": [{"op": "remove", "path": "shoeSize["}],
    "path of a megabyte": [{"op": "remove", "path": "a" * 2**20}],
    "path deeply nested": [
        {"op": "remove", "path": "emails[" + "(" * 400 + "type pr" + ")" * 400 + "]"}
    ],
    "path that is a number": [{"op": "remove", "path": 7}],
    "path to the id": [{"op": "replace", "path": "id", "value": "x"}],
    "path to meta": [{"op": "replace", "path": "meta.created", "value": "2020-01-01T00:00:00Z"}],
    "path to the user's id": [{"op": "replace", "path": "userName", "value": "eve"}],
    "removal of the user's id": [{"op": "remove", "path": "userName"}],
    "removal without path": [{"op": "remove"}],
    "value of another type": [{"op": "replace", "path": "active", "value": {"a": 1}}],
    "name that is text": [{"op": "replace", "path": "name", "value": "Ana"}],
    "emails that are text": [{"op": "add", "path": "emails", "value": "x"}],
    "display name with control characters": [
        {"op": "replace", "path": "displayName", "value": "a\0b\n"}
    ],
    "display name too long": [{"op": "replace", "path": "displayName", "value": "a" * 600}],
    "too many emails": [
        {"op": "add", "path": "emails", "value": [{"value": f"{i}@x.com"} for i in range(30)]}
    ],
    "too many operations": [{"op": "replace", "path": "displayName", "value": "a"}] * 101,
    "deep value": [{"op": "replace", "path": "name", "value": DEEP}],
    "dunder": [{"op": "replace", "path": "__class__", "value": "x"}],
    "groups": [{"op": "add", "path": "groups", "value": [{"value": "x"}]}],
}
IGNORED = {"no operations"}  # those that may succeed without changing anything

BODIES: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"{",
    "NaN": b'{"userName": NaN}',
    "an integer beyond 64 bits": b'{"userName": "eve", "x": 99999999999999999999}',
    "a list": [],
    "null": None,
    "another schema": {"schemas": [GROUP], "userName": "eve"},
    "schemas that are text": {"schemas": USER, "userName": "eve"},
    "no name": {"schemas": [USER]},
    "empty name": {"schemas": [USER], "userName": ""},
    "name that is a number": {"schemas": [USER], "userName": 7},
    "name that is a list": {"schemas": [USER], "userName": ["eve"]},
    "name with a newline": {"schemas": [USER], "userName": "eve\n"},
    "name with NUL": {"schemas": [USER], "userName": "eve\0"},
    "name too long": {"schemas": [USER], "userName": "e" * 513},
    "active that is text": {"schemas": [USER], "userName": "eve", "active": "perhaps"},
    "emails that are an object": {"schemas": [USER], "userName": "eve", "emails": {"value": "x"}},
    "deeply nested": {"schemas": [USER], "userName": "eve", "name": DEEP},
    "external id too long": {"schemas": [USER], "userName": "eve", "externalId": "e" * 600},
    "of many emails": {"schemas": [USER], "userName": "eve", "emails": [{}] * 30_000},
    "of three megabytes": {"schemas": [USER], "userName": "eve", "displayName": "a" * 3 * 2**20},
}
PATHS = [
    "/Users/%00", "/Users/..%2f..", "/Users/%f0%9f%92%a5", "/Users/" + "a" * 3000, "/Users/YQ==",
    "/Users/x/y", "/Users/-", "/Groups/%0a", "/Groups/cm9sZTo", "/Unknown", "/Users/.search",
]  # fmt: skip


def as_before(provider: Provider, user: dict[str, Any]) -> bool:
    return bool(provider.get(f"/Users/{user['id']}").json() == user)


@pytest.mark.parametrize("name", FILTERS)
def test_a_hostile_filter_is_a_400(provider: Provider, name: str) -> None:
    provider.create("ana")
    for resource in ("/Users", "/Groups"):
        response = provider.get(resource, params={"filter": FILTERS[name]})
        if response.status_code == 200:
            assert response.json()["totalResults"] == 0
        else:
            scim_error(response, 400)


def test_hostile_patches_change_nothing(provider: Provider) -> None:
    ana = provider.create("ana", active=True, displayName="Ana")
    ana = provider.get(f"/Users/{ana['id']}").json()
    wrong = []
    for name, operations in OPERATIONS.items():
        body = {"schemas": [PATCH], "Operations": operations}
        response = provider.patch(f"/Users/{ana['id']}", json=body)
        if response.status_code >= 500 or not as_before(provider, ana):
            wrong.append((name, response.status_code, response.text[:300]))
        elif response.status_code >= 400:
            scim_error(response, response.status_code)
    assert not wrong, "\n".join(map(str, wrong))


def test_hostile_users_are_not_created(provider: Provider) -> None:
    ana = provider.create("ana")
    ana = provider.get(f"/Users/{ana['id']}").json()
    taken = []
    for name, body in BODIES.items():
        options: Any = {"content": body} if isinstance(body, bytes) else {"json": body}
        for method, path in (
            ("POST", "/Users"),
            ("PUT", f"/Users/{ana['id']}"),
            ("POST", "/Groups"),
        ):
            response = provider.request(method, path, **options)
            if not 400 <= response.status_code < 500:
                taken.append((name, method, response.status_code, response.text[:200]))
            else:
                scim_error(response, response.status_code)
    assert not taken, "\n".join(map(str, taken))
    assert provider.get("/Users").json()["totalResults"] == 1
    assert as_before(provider, ana)


@pytest.mark.parametrize("path", PATHS)
def test_a_hostile_path_is_no_5xx(provider: Provider, path: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "POST"):
        response = provider.request(method, path, json={"schemas": [USER], "userName": "x"})
        assert 400 <= response.status_code < 500 or response.status_code == 501


def test_members_are_bounded_and_must_be_users(provider: Provider) -> None:
    ana = provider.create("ana")
    board = provider.create_group("plans", ana)
    for members in (
        [{"value": "nobody"}],
        [{"value": board["id"], "type": "Group"}],
        [{"value": 7}],
        [{}],
        ["ana"],
        [{"value": "YQ"}] * 10_001,
    ):
        for operation in ("add", "replace"):
            change = {"op": operation, "path": "members", "value": members}
            response = provider.change(f"/Groups/{board['id']}", change)
            scim_error(response, response.status_code)
            assert response.status_code in (400, 413)
    assert provider.get(f"/Groups/{board['id']}").json()["members"] == board["members"]


def test_a_group_keeps_its_name(provider: Provider) -> None:
    board = provider.create_group("plans")
    renamed = {"op": "replace", "path": "displayName", "value": "directors"}
    scim_error(provider.change(f"/Groups/{board['id']}", renamed), 400, "mutability")
    body = {"schemas": [GROUP], "displayName": "directors"}
    scim_error(provider.put(f"/Groups/{board['id']}", json=body), 400, "mutability")


def test_a_group_of_an_unknown_role_is_refused(provider: Provider) -> None:
    body = {"schemas": [GROUP], "displayName": "role:root"}
    assert "roles are" in scim_error(provider.post("/Groups", json=body), 400, "invalidValue")


@pytest.mark.parametrize("parameters", [
    {"startIndex": "x"}, {"count": "NaN"}, {"startIndex": "1e99"}, {"attributes": "a" * 5000},
    {"attributes": "["}, {"attributes": "userName", "excludedAttributes": "name"},
])  # fmt: skip
def test_a_hostile_query_is_a_400(provider: Provider, parameters: dict[str, str]) -> None:
    for resource in ("/Users", "/Groups"):
        scim_error(provider.get(resource, params=parameters), 400)


def test_numbers_out_of_bounds_are_brought_within(provider: Provider) -> None:
    provider.create("ana")
    for parameters in ({"startIndex": -5}, {"startIndex": 0}, {"count": 10**9}):
        assert provider.get("/Users", params=parameters).json()["totalResults"] == 1
    assert provider.get("/Users", params={"count": -1}).json().get("Resources", []) == []
    assert provider.get("/Users", params={"startIndex": 10**30}).json().get("Resources", []) == []
