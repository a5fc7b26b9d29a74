"""A tenant's lake, on a disk."""

import pickle
import time
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from shoal import Invalid, Unavailable
from shoal.stores import lake as module
from shoal.stores import lake_table
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import LakeStore
from shoal.tenants.tenant_stores import open_stores

from .test_lake_history import pass_time, store

pytestmark = pytest.mark.anyio

DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def lake(root: Path) -> LakeStore:
    return store(str(root))


def table(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


async def numbers(lake: LakeStore, *args: date) -> list[int]:
    rows = await lake.read("metrics", *args)
    return [] if rows is None else sorted(rows["n"].to_pylist())


async def test_appended_rows_are_read_back_with_their_date(lake: LakeStore, root: Path):
    await lake.append("metrics", table(1, 2), DAY)
    await lake.append("metrics", table(3), NEXT)
    rows = await lake.read("metrics")
    assert rows.to_pydict() == {"n": [1, 2, 3], "date": ["2026-03-01"] * 2 + ["2026-03-02"]}
    first, _ = await lake.files("metrics")
    assert Path(first).parent == root / "acme" / "metrics" / "date=2026-03-01"
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


async def test_a_time_of_day_is_not_part_of_the_date(lake: LakeStore):
    await lake.append("metrics", table(1), datetime(2026, 3, 1, 12, 30))
    await lake.replace("metrics", table(2), datetime(2026, 3, 1, 13))
    assert await lake.days("metrics") == [DAY]
    assert await numbers(lake) == [2]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (pa.array([1]), pa.array(["x"]), "`n` is int64 in the table, not string"),
        (pa.array(["x"]), pa.array([1]), "`n` is string in the table, not int64"),
        (pa.array([1]), pa.array([1.5]), "do not fit"),
        (pa.array([1], pa.int8()), pa.array([300]), "do not fit"),
        (pa.array([1]), pa.array([1], pa.time64("us")), "does not store"),
        (pa.array([[1]]), pa.array([["x"]]), "do not fit"),
    ],
)
async def test_rows_that_do_not_fit_are_invalid(
    lake: LakeStore, first: pa.Array, second: pa.Array, message: str
):
    await lake.append("metrics", pa.table({"n": first}), DAY)
    for write in (lake.append, lake.replace):
        with pytest.raises(Invalid, match=message):
            await write("metrics", pa.table({"n": second}), DAY)
    assert await numbers(lake) == first.to_pylist()


async def test_columns_that_differ_in_case_only_are_invalid(lake: LakeStore):
    with pytest.raises(Invalid, match="case"):
        await lake.append("metrics", pa.table({"n": [1], "N": [2]}), DAY)
    await lake.append("metrics", table(1), DAY)
    with pytest.raises(Invalid, match="case"):
        await lake.append("metrics", pa.table({"N": [2]}), DAY)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**62, 0], pa.uint64()),
        pa.array(["x", None]).dictionary_encode(),
        pa.array(["x", ""], pa.large_string()),
        pa.array([1, 2], pa.timestamp("s", "Europe/Warsaw")),
        pa.array([1.5, None], pa.float32()),
        pa.array([b"x", b""]),
        pa.array([["x"], []]),
        pa.array([True, None]),
        pa.array([date(2026, 3, 1), None]),
        pa.array([{"a": 1}, None]),
    ],
    ids=lambda values: str(values.type),
)
async def test_values_are_read_as_they_were_written(lake: LakeStore, values: pa.Array):
    await lake.append("metrics", pa.table({"n": values, "none": pa.nulls(2)}), DAY)
    assert (await lake.read("metrics"))["n"].to_pylist() == values.to_pylist()


async def test_an_emptied_table_may_get_other_columns(lake: LakeStore):
    await lake.append("metrics", table(1), DAY)
    await lake.delete("metrics")
    await lake.append("metrics", pa.table({"n": ["x"]}), DAY)
    assert await numbers(lake) == ["x"]


async def test_compaction_merges_and_loses_nothing(lake: LakeStore, monkeypatch):
    for n in range(20):
        await lake.append("metrics", table(n), DAY)
    before = await lake.files("metrics")
    assert await lake.compact("metrics") == 0  # what is replaced stays for those who read it
    assert len(await lake.files("metrics")) == 1
    assert all(Path(path).exists() for path in before)
    monkeypatch.setattr(lake_table, "RETENTION_HOURS", 0)
    assert await lake.compact("metrics") == 20
    assert not any(Path(path).exists() for path in before)
    assert await numbers(lake) == list(range(20))
    await lake.append("metrics", table(99), DAY)
    assert await numbers(lake) == [*range(20), 99]


async def test_compaction_removes_what_a_killed_writer_left(lake: LakeStore, root: Path):
    await lake.append("metrics", table(1), DAY)
    half = root / "acme/metrics/date=2026-03-01/part-x.parquet"
    half.write_bytes(b"PAR1")
    await lake.compact("metrics")
    assert half.exists()  # it may be a writer's that is about to commit it
    pass_time(root, minutes=61)
    await lake.compact("metrics")
    assert not half.exists()
    assert await numbers(lake) == [1]


async def test_a_table_that_stays_empty_is_removed(lake: LakeStore, root: Path, monkeypatch):
    await lake.append("metrics", table(1), DAY)
    await lake.delete("metrics")
    await lake.compact("metrics")
    assert (root / "acme/metrics").exists()  # a writer may have it open
    monkeypatch.setattr(lake_table, "EMPTY_FOR", timedelta(0))
    await lake.compact()
    assert not (root / "acme/metrics").exists()
    await lake.append("metrics", table(2), DAY)
    assert await numbers(lake) == [2]


async def test_the_log_of_a_table_does_not_grow_for_ever(lake: LakeStore, root: Path):
    log = root / "acme/metrics/_delta_log"
    for n in range(60):
        await lake.append("metrics", table(n), DAY)
    pass_time(root, minutes=26 * 60)
    await lake.compact("metrics")
    assert len(list(log.iterdir())) < 15
    assert await numbers(lake) == list(range(60))


async def test_a_file_deleted_between_listing_and_reading_is_not_missed(
    lake: LakeStore, monkeypatch
):
    await lake.append("metrics", table(1), DAY)
    listed, paths = [], lake_table._paths

    def stale(*given: Any) -> list[str]:
        listed.append(given)
        return ["date=2026-03-01/gone.parquet"] if len(listed) == 1 else paths(*given)

    monkeypatch.setattr(lake_table, "_paths", stale)
    assert await numbers(lake) == [1]


WRITER = """
import asyncio, sys
from datetime import date
import pyarrow as pa
import pyarrow.compute as pc
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import LakeStore

lake = LakeStore(StoreConfig(online="redis://h", vectors="http://h", lake=sys.argv[1]), "acme")
first, acknowledged = int(sys.argv[2]), open(sys.argv[3], "ab", 0)

async def main():
    for n in range(first, first + 1_000_000):
        if sys.argv[4] == "append":
            await lake.append("metrics", pa.table({"n": [n]}), date(2026, 3, 1))
            acknowledged.write(b"%d\\n" % n)
        else:
            await lake.compact("metrics", 2)

asyncio.run(main())
"""


async def test_killed_writers_and_compactions_lose_and_double_nothing(
    lake: LakeStore, root: Path, nursery: Any, tmp_path: Path
):
    written = tmp_path / "acknowledged"
    for turn in range(6):
        children = [
            nursery.start(WRITER, str(root), str((3 * turn + k) * 1_000_000), str(written), what)
            for k, what in enumerate(("append", "append", "compact"))
        ]
        size = written.stat().st_size if written.exists() else 0
        while not written.exists() or written.stat().st_size < size + 40:
            time.sleep(0.01)
        time.sleep(0.07 * turn)
        for child in children:
            nursery.kill(child)
        while any(map(nursery.alive, children)):
            time.sleep(0.01)
    acknowledged = set(map(int, written.read_text().split()))
    found = Counter(await numbers(lake))
    assert len(acknowledged) > 40
    assert acknowledged <= set(found)
    assert len(set(found) - acknowledged) <= 12  # one of each killed writer may be done
    assert set(found.values()) == {1}


async def test_concurrent_writes_of_one_table_all_take_effect(lake: LakeStore):
    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(lake.append, "metrics", table(n), DAY)
            group.start_soon(lake.replace, "metrics", table(100 + n), NEXT)
            group.start_soon(lake.compact, "metrics", 2)
    found = await numbers(lake)
    assert found[:8] == list(range(8))
    assert len(found) == 9


async def test_an_unwritable_lake_is_unavailable(unreachable: StoreConfig):
    with pytest.raises(Unavailable):
        await open_stores(unreachable, "acme", "notes").lake.append("metrics", table(1), DAY)


async def test_a_lake_whose_object_store_is_away_is_unavailable(s3: Any):
    lake = store("s3://lake/shoal?endpoint_override=http://127.0.0.1:1")
    for call in (lambda: lake.append("metrics", table(1), DAY), lambda: lake.read("metrics")):
        with pytest.raises(Unavailable, match=r"^the lake is unavailable$"):
            await call()
    with pytest.raises(Unavailable):
        await module.erase(lake._config, "acme")


async def test_a_folder_may_have_any_name(tmp_path: Path):
    lake = store(str(tmp_path / "a b ü#?'"))
    for _ in range(2):
        await lake.append("metrics", table(1), DAY)
    await lake.compact("metrics", 2)
    assert await numbers(lake) == [1, 1]
    assert [Path(path).exists() for path in await lake.files("metrics")] == [True]
    assert await lake.tables() == ["metrics"]


@pytest.mark.parametrize("versioned", [False, True])
async def test_erasing_on_s3_leaves_no_version_and_no_upload(s3: Any, versioned: bool):
    uri = s3.lake(versioned)
    lake, near = store(uri), LakeStore(store(uri)._config, "acme-2")
    bucket, client = lake._lake().location.path.split("/")[0], s3.client()
    for n in range(3):
        await lake.append("metrics", table(n), DAY)
        await near.append("metrics", table(n), DAY)
    await lake.compact("metrics", 2)
    await lake.replace("metrics", table(7), DAY)
    client.create_multipart_upload(Bucket=bucket, Key="shoal/acme/metrics/begun")
    assert await module.has_data(lake._config, "acme")
    assert await module.erase(lake._config, "acme") >= 4
    assert not await module.has_data(lake._config, "acme")
    assert await module.erase(lake._config, "acme") == 0
    left = client.list_object_versions(Bucket=bucket)
    keys = [v["Key"] for v in [*left["Versions"], *left.get("DeleteMarkers", ())]]
    assert keys and all(key.startswith("shoal/acme-2/") for key in keys)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert await numbers(near) == [0, 1, 2]


async def test_polars_reads_a_table(lake: LakeStore):
    await lake.append("metrics", table(1), DAY)
    await lake.append("metrics", table(2), NEXT)
    frame = polars.scan_delta(lake._lake().table("metrics").location.uri)
    assert frame.filter(polars.col("date") == str(NEXT)).collect()["n"].to_list() == [2]


async def test_a_store_pickles(lake: LakeStore):
    await pickle.loads(pickle.dumps(lake)).append("metrics", table(1), DAY)
    assert await numbers(lake) == [1]


async def test_rewritten_rows_are_in_no_file(lake: LakeStore):
    for day, numbers_of in ((DAY, (1, 2, 3)), (DAY, (2,)), (NEXT, (4,))):
        await lake.append("metrics", table(*numbers_of), day)

    def change(batch: pa.RecordBatch) -> pa.RecordBatch | None:
        kept = batch.filter(pc.not_equal(batch["n"], 2))
        return None if kept.num_rows == batch.num_rows else kept

    [untouched] = await lake.files("metrics", NEXT)
    assert await lake.rewrite("metrics", change) == 2
    assert await numbers(lake) == [1, 3, 4]
    on_disk = list(Path(untouched).parents[1].rglob("date=*/*.parquet"))
    assert sorted(map(str, on_disk)) == sorted(await lake.files("metrics"))
    assert untouched in map(str, on_disk)
    assert await lake.rewrite("metrics", change) == 0
    assert await lake.rewrite("missing", change) == 0
