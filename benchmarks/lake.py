"""The lake on a disk and on an object store, beside bare Parquet files.

    python benchmarks/lake.py [--latency 0.03] [--files 288]

The object store is moto's server, in a process of its own, behind a proxy that delays
each request by `--latency` seconds. `--files` is how many times a day was appended to:
the archive writes 288 times a day, each five minutes. "Bare" are files that
pyarrow writes and reads, without anything that makes a write whole or a day
replaceable.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from common import machine, table

from shoal.stores.configuration import StoreConfig
from shoal.tenants.tenant_stores import open_stores

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from moto_server import CREDENTIALS, MotoServer

DAY = date(2026, 3, 1)
ROWS = 1000


def rows(n: int) -> pa.Table:
    """A thousand events."""
    return pa.table(
        {
            "id": [f"{n}-{k}" for k in range(ROWS)],
            "type": ["item.updated"] * ROWS,
            "time": pa.array([n * ROWS + k for k in range(ROWS)], pa.timestamp("us", "UTC")),
            "data": [
                f'{{"user_id": "{k % 97}", "board": "b{k % 13}", "n": {n}}}' for k in range(ROWS)
            ],
        }
    )


async def timed(call: Callable[[], Awaitable[Any]], times: int) -> str:
    """The median, and the longest, in milliseconds."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        await call()
        spent.append((time.perf_counter() - start) * 1e3)
    return f"{sorted(spent)[times // 2]:,.0f} ({max(spent):,.0f})"


async def measure(lake: str, files: int) -> list[str]:
    """The figures of one lake: see `LABELS`."""
    config = StoreConfig(online="redis://127.0.0.1:1", vectors="http://127.0.0.1:1", lake=lake)
    store = open_stores(config, "acme", "notes").lake
    numbers = iter(range(10**9))
    found = [await timed(lambda: store.append("t", rows(next(numbers)), DAY), files)]
    found.append(await timed(lambda: store.read("t", DAY, DAY), 3))
    found.append(await timed(lambda: store.compact("t"), 1))
    found.append(await timed(lambda: store.read("t", DAY, DAY), 5))
    found.append(await timed(lambda: store.replace("t", rows(0), DAY), 10))
    for n in range(60):
        for _ in range(3):
            await store.append("sixty", rows(n), DAY + timedelta(days=n))
    found.append(await timed(lambda: store.read("sixty"), 3))
    found.append(await timed(lambda: store.days("sixty"), 5))

    async def together() -> None:
        await asyncio.gather(*(store.append("many", rows(n), DAY) for n in range(8)))

    found.append(await timed(together, 3))
    found.append(await timed(lambda: store.delete("sixty", before=DAY + timedelta(days=30)), 1))
    return found


LABELS = [
    "append 1,000 rows",
    "read a day of {files} appends",
    "compact it",
    "read it again",
    "replace a day by 1,000 rows",
    "read 60 days of 3 appends each",
    "list these days",
    "append 8 times at once",
    "delete 30 of these days",
]


async def bare(folder: str, files: int) -> list[str]:
    numbers = iter(range(10**9))

    async def append() -> None:
        pq.write_table(rows(n := next(numbers)), f"{folder}/{n}.parquet", compression="zstd")

    async def read() -> None:
        ds.dataset(folder).to_table()

    return [await timed(append, files), await timed(read, 3), *[""] * (len(LABELS) - 2)]


@contextlib.asynccontextmanager
async def delayed(url: str, seconds: float) -> AsyncIterator[str]:
    """A proxy that delays what is sent to a server."""
    host, port = url.removeprefix("http://").split(":")

    async def copy(source: Any, target: Any, wait: float) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await source.read(2**20):
                await asyncio.sleep(wait)
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: Any, writer: Any) -> None:
        upstream, down = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, down, seconds), copy(upstream, writer, 0))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--files", type=int, default=288)
    given = parser.parse_args()
    os.environ.update(CREDENTIALS)
    moto = MotoServer.start()
    try:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
            columns = [await bare(other, given.files), await measure(folder, given.files)]
            lake = moto.lake()
            columns.append(await measure(lake, given.files))
            async with delayed(moto.url, given.latency) as slow:
                columns.append(await measure(moto.lake().replace(moto.url, slow), given.files // 8))
    finally:
        moto.stop()
    print(machine())
    head = [
        "ms: median (longest)",
        "bare files",
        "disk",
        "S3",
        f"S3 + {given.latency * 1e3:.0f} ms",
    ]
    table(
        "The lake; on the delayed S3 a day is of an eighth of the appends",
        head,
        [
            [label.format(files=given.files), *figures]
            for label, *figures in zip(LABELS, *columns, strict=True)
        ],
    )


asyncio.run(main())
