"""The tenant directory, on a real Redis."""

import asyncio
import hashlib
import pickle
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Conflict, Invalid, NotFound, Role, Unavailable
from shoal.contract.experiments import ExperimentRecord, Variant
from shoal.contract.names import TENANT, encode
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import PREFIX, tenant_key
from shoal.tenants.records import PLATFORM, AuditEntry, GroupRecord, Limits, UserRecord
from shoal.testing.servers import RedisServer

pytestmark = pytest.mark.anyio

ARMS = (
    Variant(name="control", allocation=50),
    Variant(name="treatment", allocation=50, parameters={"warmth": 0.9}),
)
HOSTILE_IDS = [
    "",
    "Acme",
    "a:b",
    "../x",
    "a/b",
    "a\nb",
    "a\0b",
    "a b",
    "é",
    "-a",
    "_a",
    "a" * 64,
    "*",
    "{a}",
    "%shoal",
]


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        credential="key:1",
        role=Role.editor,
        user="ana",
        action="PUT /x",
        path="/x",
        status=200,
        request_id=str(number),
    )


async def test_tenants_are_listed_and_not_created_twice(directory: Directory) -> None:
    await directory.create_tenant("acme", "Acme, Inc.")
    assert (await directory.get_tenant("acme")).name == "Acme, Inc."
    with pytest.raises(Conflict):
        await directory.create_tenant("acme")
    for i in range(7):
        await directory.create_tenant(f"t{i}")
    first, cursor = await directory.list_tenants(limit=5)
    rest, end = await directory.list_tenants(limit=5, cursor=cursor)
    assert [t.id for t in (*first, *rest)] == ["acme", *(f"t{i}" for i in range(7))]
    assert end is None
    assert await directory.list_tenants(limit=8) == ([*first, *rest], None)
    assert await directory.tenant_ids() == [t.id for t in (*first, *rest)]


@pytest.mark.parametrize("name", HOSTILE_IDS)
async def test_an_invalid_tenant_id_is_refused(directory: Directory, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        await directory.create_tenant(name)
    assert caught.value.errors[0]["location"] == "id"
    for operation in (
        directory.get_tenant,
        directory.list_keys,
        directory.delete_tenant,
        directory.boards.list,
    ):
        with pytest.raises(NotFound):
            await operation(name)


async def test_the_name_of_the_platform_is_reserved(directory: Directory) -> None:
    with pytest.raises(Conflict):
        await directory.create_tenant(PLATFORM)
    with pytest.raises(Conflict):
        await directory.delete_tenant(PLATFORM)
    await directory.create_key(PLATFORM, "admin")
    assert len(await directory.list_keys(PLATFORM)) == 1


@given(st.from_regex(TENANT, fullmatch=True), st.lists(st.text(min_size=1), min_size=1))
def test_no_key_of_a_tenant_is_the_platforms(tenant: str, parts: list[str]) -> None:
    key = ":".join([tenant, *map(encode, parts)])
    assert not key.startswith(PREFIX)
    assert not ("{" + key + "}").startswith(PREFIX)


async def test_only_the_hash_of_a_key_is_stored(
    directory: Directory, redis_server: RedisServer
) -> None:
    await directory.create_tenant("acme")
    record, key = await directory.create_key("acme", "reader", user="ana", name="Ana's script")
    assert key.startswith(f"shoal_{record.id}_")
    secret = key.split("_")[2].encode()
    client: Any = redis_server.client
    hashes = [client.hgetall(k) for k in client.scan_iter() if client.type(k) == b"hash"]
    everything = b"".join(value for fields in hashes for value in fields.values())
    assert secret not in everything
    assert hashlib.sha256(key.encode()).hexdigest().encode() in everything
    assert "digest" not in record.public()
    assert record.digest not in repr(record)
    assert (record.role, record.user, record.name) == (Role.reader, "ana", "Ana's script")


async def test_keys_are_listed_oldest_first_and_revoked(directory: Directory) -> None:
    await directory.create_tenant("acme")
    await directory.create_tenant("globex")
    records = [(await directory.create_key("acme", "editor"))[0] for _ in range(3)]
    assert await directory.list_keys("acme") == records
    with pytest.raises(NotFound):
        await directory.revoke_key(records[0].id, tenant="globex")
    await directory.revoke_key(records[0].id, tenant="acme")
    await directory.revoke_key(records[1].id)
    assert await directory.list_keys("acme") == records[2:]
    for gone in (records[0].id, "nonsense", ""):
        with pytest.raises(NotFound):
            await directory.revoke_key(gone)


async def test_a_key_needs_a_tenant_and_a_role(directory: Directory) -> None:
    with pytest.raises(NotFound):
        await directory.create_key("acme", "editor")
    await directory.create_tenant("acme")
    for role, user, where in (
        ("the owner", None, "role"),
        ("editor", "", "user"),
        ("editor", "a\nb", "user"),
    ):
        with pytest.raises(Invalid) as caught:
            await directory.create_key("acme", role, user=user)
        assert caught.value.errors[0]["location"] == where
    assert await directory.list_keys("acme") == []


async def test_limits_parameters_and_experiments_are_kept_per_tenant(directory: Directory) -> None:
    await directory.create_tenant("acme")
    await directory.create_tenant("globex")
    await directory.set_limits("acme", "search", Limits(rps=5))
    await directory.put_parameters("acme", "search", {"weight": 0.5})
    record = ExperimentRecord(id="ranking", tenant="acme", variants=ARMS)
    await directory.put_experiment(record)
    assert await directory.get_limits("acme") == {"search": Limits(rps=5)}
    assert await directory.get_parameters("acme", "search") == {"weight": 0.5}
    assert await directory.get_experiment("acme", "ranking") == record
    assert await directory.list_experiments("acme") == [record]
    assert await directory.get_limits("globex") == {}
    assert await directory.get_parameters("globex", "search") == {}
    assert await directory.list_experiments("globex") == []
    with pytest.raises(NotFound):
        await directory.get_experiment("globex", "ranking")
    await directory.set_limits("acme", "search", None)
    await directory.put_parameters("acme", "search", {})
    await directory.delete_experiment("acme", "ranking")
    assert (
        await directory.get_limits("acme"),
        await directory.get_parameters("acme", "search"),
    ) == ({}, {})
    with pytest.raises(NotFound):
        await directory.delete_experiment("acme", "ranking")


async def test_an_invalid_capability_has_no_limits_or_parameters(
    directory: Directory,
) -> None:
    await directory.create_tenant("acme")
    for name in ("", "a/b", "A", "**", "a\n"):
        with pytest.raises(NotFound):
            await directory.set_limits("acme", name, Limits(rps=1))
        with pytest.raises(NotFound):
            await directory.put_parameters("acme", name, {"x": 1})


async def test_experiments_for_all_tenants_are_the_platforms(directory: Directory) -> None:
    record = ExperimentRecord(id="everywhere", variants=ARMS)
    await directory.put_experiment(record)
    assert await directory.list_experiments(None) == [record]
    with pytest.raises(NotFound):
        await directory.put_experiment(ExperimentRecord(id="x", tenant="nobody", variants=ARMS))


async def test_boards_and_members_are_found_both_ways(directory: Directory) -> None:
    await directory.create_tenant("acme")
    await directory.boards.replace("acme", "b:1 {x}", ["ana", "bob"])
    await directory.boards.replace("acme", "b2", ["ana"])
    await directory.boards.replace("acme", "empty", [])
    assert await directory.boards.of_user("acme", "ana") == {"b:1 {x}", "b2"}
    await directory.boards.replace("acme", "b:1 {x}", ["bob", "eve", "bob"])
    assert await directory.boards.of_user("acme", "ana") == {"b2"}
    assert await directory.boards.members("acme", "b:1 {x}") == ["bob", "eve"]
    assert await directory.boards.list("acme") == ["b2", "b:1 {x}", "empty"]
    await directory.boards.delete("acme", "b:1 {x}")
    assert await directory.boards.of_user("acme", "eve") == frozenset()
    for operation in (directory.boards.delete, directory.boards.members):
        with pytest.raises(NotFound):
            await operation("acme", "b:1 {x}")


async def test_a_board_may_have_ten_thousand_members(directory: Directory) -> None:
    await directory.create_tenant("acme")
    users = [f"u{i}" for i in range(10_000)]
    await directory.boards.replace("acme", "all", users)
    assert len(await directory.boards.members("acme", "all")) == 10_000
    await directory.boards.replace("acme", "all", users[:1])
    assert await directory.boards.members("acme", "all") == ["u0"]


@given(st.lists(st.sets(st.sampled_from("abcdefghij")), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
async def test_members_change_in_parts_of_any_size(
    directory: Directory, wanted: list[set[str]]
) -> None:
    await directory.redis.flushall()
    await directory.create_tenant("acme")
    before: set[str] = set()
    with mock.patch("shoal.tenants.members.AT_ONCE", 3):
        for users in wanted:
            changes = await directory.boards.replace("acme", "b", sorted(users))
            assert set(changes.added) == users - before
            assert set(changes.removed) == before - users
            assert set(await directory.boards.members("acme", "b")) == users
            for user in "abcdefghij":
                found = await directory.boards.of_user("acme", user)
                assert found == (frozenset({"b"}) if user in users else frozenset())
            before = users
        assert set((await directory.boards.delete("acme", "b")).removed) == before
    assert await directory.boards.list("acme") == []


async def test_a_tenants_entries_are_bounded(directory: Directory) -> None:
    await directory.create_tenant("acme")
    fields = {f"parameters/c{n}": "{}" for n in range(9_999)}
    await directory.redis.hset(tenant_key("acme"), mapping=fields)
    with pytest.raises(Conflict, match="10,000"):
        await directory.create_key("acme", "reader")
    await directory.put_parameters("acme", "c1", {"x": 1})  # which exists
    await directory.put_parameters("acme", "c1", {})
    _, key = await directory.create_key("acme", "reader")
    assert key


async def test_invalid_board_members_are_located(directory: Directory) -> None:
    await directory.create_tenant("acme")
    with pytest.raises(Invalid) as caught:
        await directory.boards.replace("acme", "b\n", ["ana", "", "x" * 513])
    assert [e["location"] for e in caught.value.errors] == ["users.1", "users.2", "board"]
    with pytest.raises(NotFound):
        await directory.boards.replace("nobody", "b", ["ana"])


async def test_the_audit_log_pages_newest_first(directory: Directory) -> None:
    await directory.create_tenant("acme")
    await directory.append_audit("acme", [entry(i) for i in range(25)])
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = await directory.list_audit("acme", limit=10, cursor=cursor)
        seen += [e.request_id for e in page]
        if cursor is None:
            break
    assert seen == [str(i) for i in reversed(range(25))]
    for bad in ("x", "1", "1-1; DROP", "-", "+", "1-1\n"):
        with pytest.raises(Invalid):
            await directory.list_audit("acme", cursor=bad)


async def test_nothing_is_left_of_an_erased_tenant(
    directory: Directory, redis_server: RedisServer
) -> None:
    for tenant in ("acme", "acme2"):
        await directory.create_tenant(tenant)
        await directory.create_key(tenant, "editor")
        await directory.roles.put(tenant, "analyst", frozenset({"read:tenant"}))
        await directory.set_limits(tenant, "*", Limits(rps=5))
        await directory.put_parameters(tenant, "search", {"weight": 0.5})
        await directory.put_experiment(ExperimentRecord(id="ranking", tenant=tenant, variants=ARMS))
        await directory.boards.replace(tenant, "b1", ["ana", "bob"])
        await directory.role_members.replace(tenant, "editor", ["ana"])
        await directory.users.create(tenant, UserRecord(id="ana", external_id="7", active=False))
        await directory.users.put_group(tenant, "b1", GroupRecord())
        await directory.append_audit(tenant, [entry(1)])
    before = len(redis_server.client.keys())  # type: ignore[arg-type]
    await directory.begin_removal("acme", notice=0)
    counts = await directory.delete_tenant("acme")
    assert counts == {
        "keys": 1,
        "roles": 1,
        "limits": 1,
        "parameters": 1,
        "experiments": 1,
        "boards": 1,
        "memberships": 2,
        "role_members": 1,
        "users": 1,
        "audit": 1,
        "exposures": 0,
    }
    left = redis_server.client.keys()
    assert not [k for k in left if b":acme:" in k or k.endswith(b":acme")]  # type: ignore[union-attr]
    assert len(left) == before - 14 + 1  # type: ignore[arg-type]  # that it was erased is remembered
    assert redis_server.client.hlen(f"{PREFIX}keys") == 1
    assert await directory.boards.of_user("acme2", "ana") == {"b1"}
    with pytest.raises(NotFound):
        await directory.delete_tenant("acme")
    await directory.create_tenant("acme")
    assert await directory.list_keys("acme") == []


async def test_a_pickled_directory_works_in_every_event_loop(directory: Directory) -> None:
    copy = pickle.loads(pickle.dumps(directory))
    for _ in range(2):
        assert await asyncio.to_thread(lambda: asyncio.run(copy.tenant_ids())) == []


async def test_an_unreachable_redis_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Directory("redis://127.0.0.1:1/0").tenant_ids()
