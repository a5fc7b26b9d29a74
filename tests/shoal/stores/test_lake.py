"""A tenant's lake, on a disk."""

import pickle
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shoal import Invalid, Unavailable
from shoal.stores import lake as module
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import ZERO, LakeStore, Part, TenantLake, live, part_id
from shoal.tenants.tenant_stores import open_stores

pytestmark = pytest.mark.anyio

DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def lake(root: Path) -> LakeStore:
    return open_stores(
        StoreConfig(online="redis://127.0.0.1:1", vectors="http://127.0.0.1:1", lake=str(root)),
        "acme",
    ).lake


def table(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


async def numbers(lake: LakeStore, *args: date) -> list[int]:
    rows = await lake.read("metrics", *args)
    return [] if rows is None else sorted(rows["n"].to_pylist())


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files had been there for long."""
    monkeypatch.setattr(module, "SETTLED", -1.0)


async def test_appended_rows_are_read_back_with_their_date(lake: LakeStore, root: Path):
    path = await lake.append("metrics", table(1, 2), DAY)
    await lake.append("metrics", table(3), NEXT)
    rows = await lake.read("metrics")
    assert rows.to_pydict() == {"n": [1, 2, 3], "date": ["2026-03-01"] * 2 + ["2026-03-02"]}
    assert Path(path).parent == root / "acme" / "metrics" / "date=2026-03-01"
    assert await lake.days("metrics") == [DAY, NEXT]
    assert await lake.tables() == ["metrics"]


async def test_both_ends_of_a_range_are_included(lake: LakeStore):
    for n in range(1, 5):
        await lake.append("metrics", table(n), date(2026, 3, n))
    assert await numbers(lake, date(2026, 3, 2), date(2026, 3, 3)) == [2, 3]
    assert await numbers(lake, date(2026, 4, 1)) == []
    assert len(await lake.files("metrics", date(2026, 3, 4))) == 1


async def test_columns_can_be_selected_including_the_date(lake: LakeStore):
    await lake.append("metrics", pa.table({"n": [1], "m": ["x"]}), DAY)
    assert (await lake.read("metrics", columns=["date", "m"])).column_names == ["date", "m"]


async def test_reading_a_missing_table_gives_none(lake: LakeStore):
    assert await lake.read("metrics") is None
    assert await lake.files("metrics") == await lake.days("metrics") == await lake.tables() == []
    assert await lake.delete("metrics") == 0
    await lake.append("metrics", table(), DAY)
    assert await lake.read("metrics") is None


async def test_files_of_different_columns_read_together(lake: LakeStore):
    await lake.append("metrics", table(1), DAY)
    await lake.append("metrics", pa.table({"n": [2], "added": ["x"]}), DAY)
    assert (await lake.read("metrics"))["added"].to_pylist() == [None, "x"]


async def test_a_replaced_day_has_only_new_rows_and_later_appends(lake: LakeStore):
    await lake.append("metrics", table(1), DAY)
    for n in (2, 3):
        await lake.replace("metrics", table(n), DAY)
    assert await numbers(lake) == [3]
    await lake.append("metrics", table(4), DAY)
    assert await numbers(lake) == [3, 4]
    assert len(await lake.files("metrics")) == 2


async def test_replacing_with_nothing_empties_the_day(lake: LakeStore):
    await lake.append("metrics", table(1), DAY)
    await lake.replace("metrics", table(), DAY)
    assert await lake.read("metrics") is None


async def test_whole_days_before_a_date_are_deleted(lake: LakeStore):
    await lake.append("metrics", table(1), DAY)
    await lake.append("metrics", table(2), NEXT)
    assert await lake.delete("metrics", before=NEXT) == 1
    assert await numbers(lake) == [2]
    assert await lake.delete("metrics") == 1
    assert await lake.tables() == []


HOSTILE = [
    "../globex",
    "a/b",
    "",
    ".",
    "..",
    "A",
    "a\n",
    "a%2f",
    "a" * 64,
    "x:y",
    "{x}",
    "a\x00",
    7,
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_table_name_is_invalid(lake: LakeStore, name: str):
    for call in [
        lambda: lake.append(name, table(1), DAY),
        lambda: lake.replace(name, table(1), DAY),
        lambda: lake.read(name),
        lambda: lake.files(name),
        lambda: lake.days(name),
        lambda: lake.delete(name),
    ]:
        with pytest.raises(Invalid):
            await call()


async def test_tenants_do_not_see_each_other(lake: LakeStore, root: Path):
    await lake.append("metrics", table(1), DAY)
    other = LakeStore(lake._config, "acme-2")
    assert await other.tables() == []
    assert await other.delete("metrics") == 0
    assert await numbers(lake) == [1]


async def test_only_the_log_writes_the_archive(lake: LakeStore):
    with pytest.raises(Invalid, match="log"):
        await lake.append("events", table(1), DAY)


async def test_the_column_date_is_reserved(lake: LakeStore):
    with pytest.raises(Invalid, match="date"):
        await lake.append("metrics", pa.table({"date": ["x"]}), DAY)


async def test_a_time_of_day_is_not_part_of_the_path(lake: LakeStore):
    path = await lake.append("metrics", table(1), datetime(2026, 3, 1, 12, 30))
    assert Path(path).parent.name == "date=2026-03-01"


async def test_compaction_merges_and_loses_nothing(lake: LakeStore, settled: None):
    for n in range(20):
        await lake.append("metrics", table(n), DAY)
    before = await lake.files("metrics")
    assert await lake.compact("metrics") == 0  # what is covered stays for those who read it
    assert len(await lake.files("metrics")) == 1
    assert all(Path(path).exists() for path in before)
    assert await lake.compact("metrics") == 20
    assert await numbers(lake) == list(range(20))
    await lake.append("metrics", table(99), DAY)
    assert await numbers(lake) == [*range(20), 99]


async def test_fresh_files_are_left_alone(lake: LakeStore):
    for n in range(20):
        await lake.append("metrics", table(n), DAY)
    await lake.compact("metrics")
    assert len(await lake.files("metrics")) == 20


async def test_compaction_after_a_replacement_does_not_restore_old_rows(
    lake: LakeStore, settled: None
):
    await lake.append("metrics", table(1), DAY)
    await lake.replace("metrics", table(2), DAY)
    for n in range(3, 6):
        await lake.append("metrics", table(n), DAY)
    for _ in range(3):
        await lake.compact("metrics", least=2)
        assert await numbers(lake) == [2, 3, 4, 5]


async def test_a_file_compacted_between_listing_and_reading_is_still_read(
    lake: LakeStore, monkeypatch
):
    await lake.append("metrics", table(1), DAY)
    listed, parts = [], TenantLake.parts

    def stale(self: TenantLake, where: str) -> list[Part]:
        listed.append(where)
        gone = Part(f"{where}/gone.parquet", "1" * 28, "1" * 28, 0.0)
        return [gone] if len(listed) <= 2 else parts(self, where)  # days(), then the day itself

    monkeypatch.setattr(TenantLake, "parts", stale)
    assert await numbers(lake) == [1]


def test_a_part_covered_by_another_is_not_live():
    def part(first: str, last: str) -> Part:
        return Part(f"{first}-{last}", first, last, 0.0)

    ids = [part_id(n) for n in (1, 2, 3, 4)]
    single = [part(i, i) for i in ids]
    merged, replaced = part(ids[0], ids[2]), part(ZERO, ids[1])
    assert live([*single, merged]) == [merged, single[3]]
    assert live([*single, replaced]) == [replaced, *single[2:]]
    assert live([merged, part(ZERO, ids[3])]) == [part(ZERO, ids[3])]


def test_ids_sort_by_time_and_differ():
    assert part_id(5) != part_id(5)
    assert part_id(10**18) < part_id(10**18 + 1)
    assert len(part_id(time.time_ns())) == len(ZERO)


WRITER = """
import sys
from datetime import date
import pyarrow as pa
from shoal.stores.lake import TenantLake
folder = TenantLake(sys.argv[1], "acme")
rows = pa.table({"n": list(range(200_000))})
while True:
    folder.write(folder.day("metrics", date(2026, 3, 1)), rows)
"""


async def test_a_killed_writer_leaves_no_partial_file(lake: LakeStore, root: Path, nursery: Any):
    for delay in (0.003, 0.01, 0.03):
        before = await lake.files("metrics")
        child = nursery.start(WRITER, str(root))
        while await lake.files("metrics") == before:
            time.sleep(0.005)
        time.sleep(delay)
        nursery.kill(child)
        while nursery.alive(child):
            time.sleep(0.005)
    for path in await lake.files("metrics"):
        assert pq.read_table(path, partitioning=None).num_rows == 200_000


async def test_compaction_removes_what_a_killed_writer_left(
    lake: LakeStore, root: Path, settled: None
):
    path = Path(await lake.append("metrics", table(1), DAY))
    half = path.parent / ".x.parquet.12.tmp"
    half.write_bytes(b"PAR1")
    assert await numbers(lake) == [1]
    await lake.compact("metrics")
    assert not half.exists()


async def test_an_unwritable_lake_is_unavailable(unreachable: StoreConfig):
    with pytest.raises(Unavailable):
        await open_stores(unreachable, "acme").lake.append("metrics", table(1), DAY)


async def test_an_object_store_works_like_a_disk():
    lake = open_stores(
        StoreConfig(online="redis://h", vectors="http://h", lake="mock:///lake"), "acme"
    ).lake
    lake.filesystem().create_dir(
        "lake/acme/metrics/date=2026-03-01"
    )  # which an object store does not ask for
    await lake.append("metrics", table(1), DAY)
    await lake.append("metrics", table(2), DAY)
    assert await numbers(lake) == [1, 2]
    await lake.replace("metrics", table(3), DAY)
    assert await numbers(lake) == [3]
    assert await lake.tables() == ["metrics"]
    assert await lake.compact("metrics") == 0
    assert await lake.delete("metrics") == 3


async def test_a_store_pickles(lake: LakeStore):
    await pickle.loads(pickle.dumps(lake)).append("metrics", table(1), DAY)
    assert await numbers(lake) == [1]
