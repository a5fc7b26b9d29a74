"""Usage: the journal of a process, the ledger of all, and what is left of quotas."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import QuotaExceeded, Unavailable
from shoal.router.quotas import TenantUsage
from shoal.stores.configuration import StoreConfig
from shoal.tenants.directory import Directory
from shoal.tenants.records import Limits
from shoal.tenants.storage_size import measure_storage
from shoal.tenants.tenant_stores import open_stores
from shoal.tenants.usage_journal import UsageJournal, abandoned_journals, read_journal
from shoal.tenants.usage_ledger import UsageLedger, end_of, periods_between, today
from shoal.tenants.usage_meter import UsageMeter

pytestmark = pytest.mark.anyio
NAMES = itertools.count()


async def used(ledger: UsageLedger, tenant: str = "acme") -> dict[str, dict[str, int]]:
    """Today's counts by capability."""
    return {u.capability: u.counts for u in await ledger.read(tenant, [today()])}


# The journal


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme", "globex"]),
            st.sampled_from(["2026-11-28", "2026-11-29"]),
            st.sampled_from(["search", "features"]),
            st.sampled_from(["requests", "items"]),
            st.integers(1, 10**12),
        ),
        max_size=60,
    )
)
def test_a_journal_is_read_back_as_it_was_counted(
    tmp_path_factory: pytest.TempPathFactory, counted: list[tuple[str, str, str, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("usage")
    journal = UsageJournal(folder)
    expected: dict[Any, dict[Any, int]] = {}
    for tenant, day, capability, meter, count in counted:
        journal.add(tenant, day, capability, meter, count)
        of_day = expected.setdefault((tenant, day), {})
        of_day[capability, meter] = of_day.get((capability, meter), 0) + count
    assert {pair: journal.counts(*pair) for pair in expected} == expected
    assert list(abandoned_journals(folder)) == []  # this process lives
    found = [read_journal(path) for path in folder.iterdir()]
    assert found == ([expected] if expected else [])
    journal.release()
    assert len(list(abandoned_journals(folder))) == len(found)


def test_lines_of_a_broken_file_are_skipped(tmp_path: Path) -> None:
    journal = UsageJournal(tmp_path)
    journal.add("acme", "2026-11-28", "search", "items", 5)
    [path] = tmp_path.iterdir()
    path.write_bytes(b"\0" * 256 + path.read_bytes() + b"half a line")
    assert read_journal(path) == {("acme", "2026-11-28"): {("search", "items"): 5}}


def test_a_full_disk_costs_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    journal = UsageJournal(tmp_path / "file" / "usage")
    for _ in range(3):
        journal.add("acme", "2026-11-28", "search", "items", 1)
    assert journal.counts("acme", "2026-11-28") == {("search", "items"): 3}
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1


# The ledger


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100)), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
async def test_counts_are_added_once_in_any_order(
    directory: Directory, sent: list[tuple[str, int]]
) -> None:
    """A journal's count only grows, but old ones may arrive late, and again."""
    ledger, tenant = UsageLedger(directory.url), f"acme-{next(NAMES)}"
    for journal, count in sent:
        await ledger.add(tenant, "2026-11-28", journal, {("search", "items"): count})
    latest: dict[str, int] = {}
    for journal, count in sent:
        latest[journal] = max(count, latest.get(journal, 0))
    for period in ("2026-11-28", "2026-11"):
        found = [u.counts.get("items", 0) for u in await ledger.read(tenant, [period])]
        assert sum(found) == sum(latest.values())


async def test_everything_in_the_ledger_expires(directory: Directory) -> None:
    ledger = UsageLedger(directory.url)
    await ledger.add("acme", today(), "journal", {("search", "items"): 1})
    await ledger.set_storage("acme", 5)
    keys = await directory.redis.keys("@events:{acme}:usage:*")
    lasting = {key for key in keys if await directory.redis.ttl(key) < 0}
    assert len(keys) == 4
    assert lasting == {b"@events:{acme}:usage:storage"}  # one number, overwritten


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        ("2026-11-28T23:59:59", "2026-11-29", "2026-12-01"),
        ("2026-12-31T00:00:00", "2027-01-01", "2027-01-01"),
        ("2028-02-29T12:00:00", "2028-03-01", "2028-03-01"),
    ],
)
def test_periods_end_at_midnight_utc(now: str, day: str, month: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert end_of("day", at).isoformat() == f"{day}T00:00:00+00:00"
    assert end_of("month", at).isoformat() == f"{month}T00:00:00+00:00"


def test_periods_between_include_both_ends() -> None:
    first, last = date(2026, 11, 29), date(2026, 12, 2)
    assert periods_between(first, last, "day") == [
        "2026-11-29",
        "2026-11-30",
        "2026-12-01",
        "2026-12-02",
    ]
    assert periods_between(first, last, "month") == ["2026-11", "2026-12"]


# The meter


@pytest.fixture
async def new_meter(directory: Directory, tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """Makes the meters of processes on one machine."""
    await directory.create_tenant("acme")
    yield lambda: UsageMeter(directory, tmp_path / "usage")


async def test_flushing_again_adds_nothing(new_meter: Callable[[], UsageMeter]) -> None:
    meter = new_meter()
    for _ in range(3):
        meter.add("acme", "search", "items", 2)
        await meter.flush()
        await meter.flush()
    await meter.close()
    assert await used(meter.ledger) == {"search": {"items": 6}}


async def test_what_a_process_left_is_collected_once(
    new_meter: Callable[[], UsageMeter], tmp_path: Path
) -> None:
    ended, others = new_meter(), [new_meter() for _ in range(3)]
    ended.add("acme", "search", "items", 2)
    await ended.flush()
    ended.add("acme", "search", "items", 3)
    await asyncio.gather(*(other.collect() for other in others))
    assert await used(ended.ledger) == {"search": {"items": 2}}  # it lives
    ended._journal.release()
    await asyncio.gather(*(other.collect() for other in others))
    assert await used(ended.ledger) == {"search": {"items": 5}}
    assert list((tmp_path / "usage").iterdir()) == []


async def test_counts_wait_while_redis_is_unavailable(directory: Directory, tmp_path: Path) -> None:
    meter = UsageMeter(Directory("redis://127.0.0.1:1/0"), tmp_path)
    meter.add("acme", "search", "items", 2)
    with pytest.raises(Unavailable):
        await meter.flush()
    await meter.close()
    meter._journal.release()
    other = UsageMeter(directory, tmp_path)
    await other.collect()
    assert await used(other.ledger) == {"search": {"items": 2}}


async def test_usage_of_an_erased_tenant_is_dropped(
    directory: Directory, new_meter: Callable[[], UsageMeter]
) -> None:
    meter, ended = new_meter(), new_meter()
    ended.add("acme", "search", "items", 1)
    ended._journal.release()
    meter.add("acme", "search", "items", 1)
    await directory.begin_removal("acme", notice=0)
    await meter.flush()
    await meter.collect()
    assert await directory.redis.keys("@events:{acme}*") == []


async def test_no_file_has_an_erased_tenant_and_none_inherits(
    directory: Directory, new_meter: Callable[[], UsageMeter], tmp_path: Path
) -> None:
    meter = new_meter()
    await directory.create_tenant("globex")
    for tenant in ("acme", "globex"):
        meter.add(tenant, "search", "items", 3)
    await meter.flush()
    await directory.begin_removal("acme", notice=0)
    await directory.delete_tenant("acme")
    await meter.flush()
    [file] = (tmp_path / "usage").iterdir()
    assert b"acme" not in file.read_bytes() and b"globex" in file.read_bytes()
    assert set(read_journal(file)) == {("globex", today())}
    assert meter.used("acme", "day", "*", "items") == 0


async def test_a_new_journal_begins_with_the_day(
    new_meter: Callable[[], UsageMeter], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    day = ["2026-11-28"]
    monkeypatch.setattr("shoal.tenants.usage_meter.today", lambda: day[0])
    monkeypatch.setattr("shoal.tenants.usage_meter.TICK_SECONDS", 0.01)
    meter = new_meter()
    await meter.start()
    meter.add("acme", "search", "items", 1)
    [first] = (tmp_path / "usage").iterdir()
    day[0] = "2026-11-29"
    meter.add("acme", "search", "items", 2)
    async with asyncio.timeout(60):
        while first.exists():
            await asyncio.sleep(0.01)
    meter.add("acme", "search", "items", 4)
    await meter.close()
    found = await meter.ledger.read("acme", ["2026-11-28", "2026-11-29", "2026-11"])
    assert [u.counts["items"] for u in found] == [1, 6, 7]


# Quotas


QUOTAS = {
    "*": Limits.model_validate({"day": {"items": 10}, "storage_bytes": 100}),
    "search": Limits.model_validate({"month": {"items": 6}}),
}


async def test_replicas_know_of_each_others_usage(
    new_meter: Callable[[], UsageMeter],
) -> None:
    """All together use no more than is allowed, once each knows the others' counts."""
    meters = [new_meter() for _ in range(3)]
    quotas = {"*": QUOTAS["*"]}
    replicas = [TenantUsage(meter, "acme", "features", quotas) for meter in meters]
    accepted = 0
    for usage in itertools.islice(itertools.cycle(replicas), 60):
        for meter in meters:
            await meter.watch("acme")
            await meter.flush()
        for meter in meters:
            await meter._refresh_watched(0)
        try:
            usage.require("items", 3)
        except QuotaExceeded as error:
            assert error.quota["used"] == accepted
            assert error.quota["limit"] == 10
            continue
        usage.add("items", 3)
        accepted += 3
    assert accepted == 9


async def test_a_capability_has_quotas_of_its_own(new_meter: Callable[[], UsageMeter]) -> None:
    meter = new_meter()
    search = TenantUsage(meter, "acme", "search", QUOTAS)
    features = TenantUsage(meter, "acme", "features", {"*": QUOTAS["*"]})
    await meter.watch("acme")
    search.require("items", 6)
    search.add("items", 6)
    with pytest.raises(QuotaExceeded) as caught:
        search.require("items")
    month = end_of("month", datetime.now(UTC)).isoformat()
    assert caught.value.problem()["quota"] == {
        "meter": "items",
        "period": "month",
        "capability": "search",
        "used": 6,
        "limit": 6,
        "resets": month,
    }
    features.require("items", 4)
    with pytest.raises(QuotaExceeded, match="6 are used, and this request needs 5 more"):
        features.require("items", 5)
    search.require("embedding_texts", 10**9)  # has none


async def test_full_storage_refuses_what_is_stored(new_meter: Callable[[], UsageMeter]) -> None:
    meter = new_meter()
    usage = TenantUsage(meter, "acme", "features", QUOTAS)
    await meter.ledger.set_storage("acme", 100)
    await meter.watch("acme")
    for stored in ("items", "events"):
        with pytest.raises(QuotaExceeded, match="100 bytes of storage"):
            usage.require(stored)  # type: ignore[arg-type]
    usage.require("requests")


async def test_storage_is_measured_for_each_tenant(config: StoreConfig, tenant: str) -> None:
    other = f"{tenant}-2"
    stores, text = open_stores(config, tenant, "notes"), "x" * 100_000
    before = await measure_storage(config, [tenant, other])
    await stores.online.set(("a",), text)
    await stores.online.set(("b",), text)
    after = await measure_storage(config, [tenant, other])
    assert before == {tenant: 0, other: 0}
    assert 200_000 < after[tenant] < 500_000
    assert after[other] == 0
