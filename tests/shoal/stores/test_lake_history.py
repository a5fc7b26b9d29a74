"""Whatever is done to a lake, and in whatever order, its rows are those of a
dictionary.
"""

import asyncio
import os
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shoal.stores import lake_table
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import LakeStore

FIRST = date(2026, 3, 1)
TABLE = "metrics"

days = st.integers(0, 2).map(lambda n: FIRST + timedelta(days=n))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), days, st.integers(0, 3)),
        st.tuples(st.just("append many"), days, st.integers(8, 20)),
        st.tuples(st.just("replace"), days, st.integers(0, 3)),
        st.tuples(st.just("delete before"), days),
        st.tuples(st.just("delete")),
        st.tuples(st.just("compact"), st.integers(1, 10), st.booleans()),
        st.tuples(st.just("read"), days, days),
    ),
    max_size=14,
)


STAGGERED = [
    step for _ in range(4) for step in (("append many", FIRST, 20), ("wait", 6), ("compact", 2))
]
"""Compactions within ten minutes of one another, of files older and newer than the last
one's.
"""


def store(lake: str) -> LakeStore:
    config = StoreConfig(online="redis://127.0.0.1:1", vectors="http://127.0.0.1:1", lake=lake)
    return LakeStore(config, "acme")


def rows(values: list[int]) -> pa.Table:
    """Half of them with a column that the others do not have."""
    table = pa.table({"n": pa.array(values, pa.int64())})
    odd = bool(values) and values[0] % 2 == 1
    return table.append_column("m", pa.array([str(v) for v in values])) if odd else table


def contents(lake: LakeStore, *between: date) -> dict[str, Counter[int]]:
    """The rows by day."""
    table = asyncio.run(lake.read(TABLE, *between))
    found: dict[str, Counter[int]] = {}
    for row in [] if table is None else table.to_pylist():
        found.setdefault(row["date"], Counter())[row["n"]] += 1
        assert row.get("m") in (None, str(row["n"]))
    return found


def pass_time(folder: Path, minutes: int) -> None:
    """Make everything in a folder older."""
    for path in folder.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - minutes * 60
            os.utime(path, (then, then))


class Expected:
    """The dictionary: rows by day."""

    def __init__(self) -> None:
        self.days: dict[date, Counter[int]] = {}
        self.next = 0

    def values(self, count: int) -> list[int]:
        self.next += count
        return list(range(self.next - count, self.next))

    def between(self, first: date, last: date) -> dict[str, Counter[int]]:
        return {
            str(day): values for day, values in self.days.items() if first <= day <= last and values
        }


def play(lake: LakeStore, history: list[tuple[Any, ...]]) -> None:
    expected = Expected()
    run: Any = asyncio.run
    for step in history:
        match step:
            case ("append", day, count):
                values = expected.values(count)
                run(lake.append(TABLE, rows(values), day))
                expected.days.setdefault(day, Counter()).update(values)
            case ("append many", day, count):
                for value in expected.values(count):
                    run(lake.append(TABLE, rows([value]), day))
                    expected.days.setdefault(day, Counter())[value] += 1
            case ("replace", day, count):
                values = expected.values(count)
                run(lake.replace(TABLE, rows(values), day))
                expected.days[day] = Counter(values)
            case ("delete before", before):
                run(lake.delete(TABLE, before=before))
                expected.days = {d: v for d, v in expected.days.items() if d >= before}
            case ("delete",):
                run(lake.delete(TABLE))
                expected.days = {}
            case ("compact", least, an_hour_later):
                with pytest.MonkeyPatch.context() as patch:
                    if an_hour_later:
                        patch.setattr(lake_table, "RETENTION_HOURS", 0)
                    run(lake.compact(TABLE, least))
            case ("read", first, last):
                assert contents(lake, first, last) == expected.between(first, last)
        assert contents(lake) == expected.between(FIRST, FIRST + timedelta(days=9))
    assert run(lake.days(TABLE)) == sorted(d for d, v in expected.days.items() if v)


@given(history=steps)
@example(history=STAGGERED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_on_a_disk_reads_as_a_dictionary(
    history: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("lake")
    play(store(str(folder)), history)


@given(history=steps)
@settings(max_examples=8)
def test_any_history_on_s3_reads_as_a_dictionary(history: list[tuple[Any, ...]], s3: Any):
    play(store(s3.lake()), history)
