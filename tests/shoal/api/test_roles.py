"""Roles of a tenant's own, and what nobody can give: more than they have."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends

from shoal import (
    Capability,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TenantContext,
    requires,
)
from shoal.router.credentials import mint_internal
from shoal.tenants.records import PLATFORM
from shoal.testing import wait_until
from shoal.testing.app import SECRET, CapabilityApp

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PERSONAL = ["read:own", "read:boards", "write:own", "write:boards"]


def relay_routes(_: Any) -> APIRouter:
    router = APIRouter()

    @router.post("/relay")
    async def relay(
        as_service: bool = False, ctx: TenantContext = Depends(requires("read:own"))
    ) -> dict[str, Any]:
        """Define a role through the platform's operation, as the caller."""
        platform = (ctx.as_service() if as_service else ctx).capability("platform")
        assert platform is not None
        return dict(await platform.put_role(name="relayed", rights=["read:own"]))

    return router


@pytest.fixture
def app(shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
    return shoal_app(capabilities=[Capability("relay", "Calls.", routes=relay_routes)])


def operator(app: CapabilityApp) -> Any:
    return Client(app.address, mint_internal(SECRET, PLATFORM, "admin")).platform


def of_role(app: CapabilityApp, rights: Sequence[str], user: str | None = None) -> Any:
    """The platform's operations, as a key with these rights."""
    admin = app.client("acme", "admin").platform
    name = "-".join(["r", *rights]).replace(":", ".")
    admin.put_role(name=name, rights=list(rights))
    return Client(
        app.address, admin.create_key(id="acme", body={"role": name, "user": user})["key"]
    ).platform


def test_a_lowered_role_binds_keys_that_exist(app: CapabilityApp) -> None:
    admin = app.client("acme", "admin").platform
    admin.put_role(name="clerk", rights=["read:own", "read:tenant"])
    key = admin.create_key(id="acme", role="clerk")["key"]
    clerk = Client(app.address, key, retries=0).platform
    assert clerk.list_experiments() == {"experiments": []}
    admin.put_role(name="clerk", rights=["read:own"])

    def refused() -> bool:
        try:
            clerk.list_experiments()
        except Forbidden:
            return True
        return False

    wait_until(refused)
    assert clerk.whoami()["rights"] == ["read:own"]
    admin.delete_role(name="clerk")
    wait_until(lambda: not_defined(clerk))


def not_defined(platform: Any) -> bool:
    try:
        platform.whoami()
    except Forbidden as error:
        return "not defined" in error.detail
    return False


@pytest.mark.parametrize("role", ["reader", "editor", "admin"])
def test_a_key_has_at_most_its_makers_rights(app: CapabilityApp, role: str) -> None:
    keymaster = of_role(app, ["admin:tenant", *PERSONAL])
    with pytest.raises(Forbidden, match="read:tenant"):
        keymaster.create_key(id="acme", role=role)
    if role != "admin":  # a user with a built-in role has personal rights only
        assert keymaster.create_key(id="acme", body={"role": role, "user": "ana"})["role"] == role
    with pytest.raises(Forbidden, match="read:tenant"):
        keymaster.put_role(name="mine", rights=["read:tenant"])


def test_a_users_key_makes_none_that_sees_more(app: CapabilityApp) -> None:
    """A key of another user, or of the service, sees other boards."""
    ana = of_role(app, ["admin:tenant", *PERSONAL], user="ana")
    app.client("acme", "admin").platform.put_role(name="personal", rights=PERSONAL)
    ana.create_key(id="acme", body={"role": "personal", "user": "ana"})
    for user in ("bob", None):
        with pytest.raises(Forbidden, match="read:tenant, write:tenant"):
            ana.create_key(id="acme", body={"role": "personal", "user": user})


def test_nobody_but_the_operator_gives_admin_of_the_platform(app: CapabilityApp) -> None:
    admin = app.client("acme", "admin").platform
    with pytest.raises(Forbidden, match="admin:platform"):
        admin.put_role(name="root", rights=["admin:platform"])
    operator(app).put_role(name="root", rights=["admin:platform", "read:own"])
    key = admin.create_key(id="acme", role="root")["key"]
    assert Client(app.address, key).platform.whoami()["rights"] == ["read:own"]
    operator(app).delete_role(name="root")


def test_uncovering_a_role_of_the_operators_gives_nothing(app: CapabilityApp) -> None:
    operator(app).put_role(name="wide", rights=["read:tenant"])
    app.client("acme", "admin").platform.put_role(name="wide", rights=["read:own"])
    keymaster = of_role(app, ["admin:tenant", *PERSONAL])
    with pytest.raises(Forbidden, match="read:tenant"):
        keymaster.delete_role(name="wide")
    app.client("acme", "admin").platform.delete_role(name="wide")
    operator(app).delete_role(name="wide")


def test_invalid_roles_are_refused(app: CapabilityApp) -> None:
    admin = app.client("acme", "admin").platform
    with pytest.raises(Conflict, match="built-in"):
        admin.put_role(name="editor", rights=["read:own"])
    for name, rights in (("../x", []), ("x" * 65, []), ("a", ["read:all"]), ("a", "read:own")):
        with pytest.raises((Invalid, NotFound)):
            admin.put_role(name=name, rights=rights)
    with pytest.raises(NotFound, match="the roles are reader, editor, admin"):
        admin.get_role(name="nobodys")
    with pytest.raises(Invalid, match="no role 'nobodys'"):
        admin.create_key(id="acme", role="nobodys")


def test_a_tenant_defines_a_bounded_number_of_roles(
    app: CapabilityApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.tenants.roles.MAX_ROLES", 1)
    admin = app.client("tiny", "admin").platform
    admin.put_role(name="one", rights=["read:own"])
    admin.put_role(name="one", rights=["write:own"])
    with pytest.raises(Conflict, match="at most 1 roles"):
        admin.put_role(name="two", rights=["read:own"])


def test_the_audit_log_says_how_a_role_changed(app: CapabilityApp) -> None:
    admin = app.client("audited", "admin").platform
    admin.put_role(name="clerk", rights=["read:own", "write:own"])
    admin.put_role(name="clerk", rights=["read:own", "read:tenant"])
    entries = wait_until(lambda: len(found := admin.list_audit()["entries"]) == 2 and found, 10)
    assert [entry["changes"] for entry in entries] == [
        ["+read:tenant", "-write:own"],
        ["+read:own", "+write:own"],
    ]


def test_roles_of_another_tenant_are_unknown(app: CapabilityApp) -> None:
    app.client("acme", "admin").platform.put_role(name="local", rights=["read:own"])
    globex = app.client("globex", "admin").platform
    assert "local" not in [role["name"] for role in globex.list_roles()["roles"]]
    with pytest.raises(Invalid):
        globex.create_key(id="globex", role="local")


def test_a_call_between_capabilities_gains_no_right(app: CapabilityApp) -> None:
    """Not even of an admin's service that acts for a user."""
    named = Client(app.address, app.key("acme", "admin"), user="ana")
    for caller in (named, app.client("acme", "editor"), app.client("acme", "editor", "ana")):
        with pytest.raises(Forbidden):
            caller.relay.relay()
    assert app.client("acme", "admin").relay.relay()["rights"] == ["read:own"]
    assert named.relay.relay(as_service=True)["rights"] == ["read:own"]


def test_scim_groups_give_no_more_than_their_maker_has(app: CapabilityApp) -> None:
    admin = app.client("acme", "admin").platform
    admin.put_role(name="scim", rights=["admin:tenant", *PERSONAL])
    admin.put_role(name="narrow", rights=["read:own"])
    groups = f"{app.address}/platform/scim/v2/Groups"

    def create(key: str, group: str) -> int:
        body = {"schemas": [GROUP], "displayName": group}
        return httpx.post(groups, json=body, headers={"authorization": f"Bearer {key}"}).status_code

    provider = admin.create_key(id="acme", role="scim")["key"]
    assert [create(provider, name) for name in ("role:admin", "payroll")] == [403, 403]
    assert [create(provider, name) for name in ("role:editor", "role:narrow")] == [201, 201]
    assert create(app.key("acme", "admin"), "role:admin") == 201
    assert create(app.key("acme", "admin"), "role:nobodys") == 400


def test_a_built_in_role_cannot_be_deleted(app: CapabilityApp) -> None:
    for platform in (operator(app), app.client("acme", "admin").platform):
        with pytest.raises(Conflict, match="'reader' is a built-in role"):
            platform.delete_role(name="reader")
