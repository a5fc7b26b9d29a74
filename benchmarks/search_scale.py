"""Growth of the `vectors` store from 10,000 to ten million vectors: p50, p95 and recall
of searches with and without a filter, in one tenant and over a thousand, with the time
to build, the memory and the disk.

    python benchmarks/search_scale.py [--rows 10000 100000 1000000 10000000]
        [--tenants 1000] [--folder /tmp] [--plot docs/search-growth.svg]

A search here is `nearest` with 20 hits, through the store that a capability uses,
without HTTP and without the embedding of a query. The vectors are clustered noise with
a seed: 4,096 random centres, and noise of .8 of a centre's length. Rows are on boards
and of types at random, independently of their vectors, which is the hard case. Truth
is brute force in NumPy. Ten million need 45 GB of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import machine, spread

from shoal import AnyOf, Equals, VectorSchema
from shoal.stores.configuration import StoreConfig
from shoal.tenants.tenant_stores import open_stores

DIMENSION, CLUSTERS, NOISE, SEED = 384, 4_096, 0.8, 7
CHUNK, LIMIT, QUERIES = 10_000, 20, 60
SCHEMA = VectorSchema(DIMENSION, {"board": "string", "type": "string"})
BOARDS = np.array(["half", *(f"p{i}" for i in range(20)), *(f"q{i}" for i in range(150))])
BOARD_CHANCE = np.array([0.5] + [0.01] * 20 + [0.002] * 150)
TYPES = np.array(["update", "item", "doc", "file"])
TYPE_CHANCE = np.array([0.5, 0.488, 0.01, 0.002])
FILTERS: dict[str, list[Any]] = {
    "all": [],
    "board, 50 %": [Equals("board", "half")],
    "board, 1 %": [Equals("board", "p3")],
    "board, .2 %": [Equals("board", "q7")],
    "type, 50 %": [Equals("type", "update")],
    "type, 1 %": [Equals("type", "doc")],
    "type, .2 %": [Equals("type", "file")],
    "50 boards, 10 %": [AnyOf("board", [f"q{i}" for i in range(50)])],
    "board and type, .25 %": [Equals("type", "update"), AnyOf("board", ["q7", "p3"])],
}


class Data:
    """Vectors with their boards and types, by chunks of 10,000."""

    def __init__(self) -> None:
        centres = np.random.default_rng([SEED, 0]).standard_normal(
            (CLUSTERS, DIMENSION), dtype=np.float32
        )
        self._centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
        self.queries = self.chunk(1_000_000)[0][:QUERIES]

    def chunk(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng([SEED, 1, number])
        vectors = random.standard_normal((CHUNK, DIMENSION), dtype=np.float32)
        vectors *= NOISE / DIMENSION**0.5
        vectors += self._centres[random.integers(0, CLUSTERS, CHUNK)]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        boards = random.choice(BOARDS, CHUNK, p=BOARD_CHANCE / BOARD_CHANCE.sum())
        return vectors, boards, random.choice(TYPES, CHUNK, p=TYPE_CHANCE)


class Truth:
    """The nearest of all that has been seen, by filter."""

    def __init__(self, queries: np.ndarray) -> None:
        self._queries = queries
        self._scores = {f: np.full((QUERIES, LIMIT), -9.0, np.float32) for f in FILTERS}
        self._ids = {f: np.full((QUERIES, LIMIT), -1, np.int64) for f in FILTERS}

    def see(self, start: int, vectors: np.ndarray, boards: np.ndarray, types: np.ndarray) -> None:
        scores = self._queries @ vectors.T
        columns = {"board": boards, "type": types}
        for name, conditions in FILTERS.items():
            there = np.ones(len(vectors), bool)
            for condition in conditions:
                values = getattr(condition, "values", None) or [condition.value]
                there &= np.isin(columns[condition.field], list(values))
            rows = np.flatnonzero(there)
            best = np.concatenate([self._scores[name], scores[:, rows]], axis=1)
            ids = np.broadcast_to(rows + start, (QUERIES, len(rows)))
            ids = np.concatenate([self._ids[name], ids], axis=1)
            order = np.argpartition(-best, LIMIT - 1, axis=1)[:, :LIMIT]
            self._scores[name] = np.take_along_axis(best, order, 1)
            self._ids[name] = np.take_along_axis(ids, order, 1)

    def nearest(self, filter: str, query: int) -> set[int]:
        return set(self._ids[filter][query].tolist()) - {-1}


class Memory:
    """The most that this process had for itself alone, looked at ten times a second."""

    def __enter__(self) -> Memory:
        self.most, self._going = 0.0, True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        process = psutil.Process()
        while self._going:
            self.most = max(self.most, process.memory_full_info().uss / 2**30)
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()


@dataclass
class Figures:
    """What is known of one size."""

    rows: int
    tenants: int
    load: float = 0.0
    optimize: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    times: dict[str, list[float]] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)


def rows_of(start: int, chunk: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    vectors, boards, types = chunk
    labels = zip(boards.tolist(), types.tolist(), strict=True)
    return [
        {
            "id": f"{start + i:08d}",
            "vectors": vectors[i : i + 1],
            "version": None,
            "board": board,
            "type": kind,
        }
        for i, (board, kind) in enumerate(labels)
    ]


async def one_tenant(config: StoreConfig, data: Data, rows: int) -> Figures:
    """All rows in one collection."""
    found, truth = Figures(rows, 1), Truth(data.queries)
    store = open_stores(config, "one", "search").vectors
    await store.ensure("items", SCHEMA)
    with Memory() as memory:
        for number in range(rows // CHUNK):
            chunk = data.chunk(number)
            truth.see(number * CHUNK, *chunk)
            batch, began = rows_of(number * CHUNK, chunk), time.perf_counter()
            await store.upsert("items", batch)
            found.load += time.perf_counter() - began
        began = time.perf_counter()
        await store.optimize("items")
        found.optimize = time.perf_counter() - began
        for name, conditions in FILTERS.items():
            right, wanted, times = 0, 0, list[float]()
            for round_ in range(2):  # the first brings files and indexes into memory
                for i, query in enumerate(data.queries):
                    began = time.perf_counter()
                    hits = await store.nearest("items", query, limit=LIMIT, filter=conditions)
                    times.append(time.perf_counter() - began)
                    if round_ == 0:
                        best = truth.nearest(name, i)
                        right += len(best & {int(hit.id) for hit in hits})
                        wanted += len(best)
            found.times[name] = times[len(times) // 2 :]
            found.recall[name] = right / max(wanted, 1)
        found.memory = memory.most
    return found


async def many_tenants(config: StoreConfig, data: Data, tenants: int) -> Figures:
    """10,000 rows in each of many tenants; each query asks another tenant."""
    found = Figures(tenants * CHUNK, tenants)
    stores = [open_stores(config, f"t{n}", "search").vectors for n in range(tenants)]
    with Memory() as memory:
        for number, store in enumerate(stores):
            await store.ensure("items", SCHEMA)
            batch, began = rows_of(0, data.chunk(number)), time.perf_counter()
            await store.upsert("items", batch)
            middle = time.perf_counter()
            await store.optimize("items")
            found.load += middle - began
            found.optimize += time.perf_counter() - middle
        asked = np.random.default_rng(SEED).permutation(tenants)[:QUERIES].tolist()
        for name, conditions in FILTERS.items():
            right, wanted, times = 0, 0, list[float]()
            for round_, tenant in ((r, t) for r in range(2) for t in asked):
                query = data.queries[tenant % QUERIES]
                began = time.perf_counter()
                hits = await stores[tenant].nearest("items", query, limit=LIMIT, filter=conditions)
                times.append(time.perf_counter() - began)
                if round_ == 0:
                    truth = Truth(data.queries)
                    truth.see(0, *data.chunk(tenant))
                    best = truth.nearest(name, tenant % QUERIES)
                    right += len(best & {int(hit.id) for hit in hits})
                    wanted += len(best)
            found.times[name] = times[len(times) // 2 :]
            found.recall[name] = right / max(wanted, 1)
        found.memory = memory.most
    return found


def measure(rows: int, tenants: int, parent: Path | None) -> Figures:
    folder = Path(tempfile.mkdtemp(prefix="shoal-bench-", dir=parent))
    try:
        config, data = (
            StoreConfig(online="redis://127.0.0.1:1", vectors=str(folder), lake="/tmp"),
            Data(),
        )
        work = (
            one_tenant(config, data, rows) if tenants == 1 else many_tenants(config, data, tenants)
        )
        found = asyncio.run(work)
        files = (path for path in folder.rglob("*") if path.is_file())
        found.disk = sum(path.stat().st_size for path in files) / 1e9
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(all_of_it: Sequence[Figures]) -> None:
    """As Markdown."""
    heads = [f"{f.rows:,} in {f.tenants:,}" for f in all_of_it]
    print("\n| rows in tenants | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    for name in FILTERS:
        cells = []
        for f in all_of_it:
            p50, p95, _ = spread(f.times[name])
            cells.append(f"{float(p50):.1f}, {float(p95):.1f}; {f.recall[name]:.3f}")
        print(f"| {name}: p50, p95 ms; recall@20 | " + " | ".join(cells) + " |")
    print("| written, s | " + " | ".join(f"{f.load:.0f}" for f in all_of_it) + " |")
    print("| optimized, s | " + " | ".join(f"{f.optimize:.0f}" for f in all_of_it) + " |")
    print("| memory, GiB at most | " + " | ".join(f"{f.memory:.2f}" for f in all_of_it) + " |")
    print("| disk, GB | " + " | ".join(f"{f.disk:.2f}" for f in all_of_it) + " |", flush=True)


def plot(all_of_it: Sequence[Figures], path: str) -> None:
    """p50 of each filter, and p95 without one, by rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    one = [f for f in all_of_it if f.tenants == 1]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name in ("all", "board, 50 %", "board, 1 %", "board, .2 %", "type, .2 %"):
        p50 = [float(spread(f.times[name])[0]) for f in one]
        axes.plot([f.rows for f in one], p50, marker="o", label=name)
    p95 = [float(spread(f.times["all"])[1]) for f in one]
    axes.plot([f.rows for f in one], p95, marker="o", linestyle=":", label="all, p95")
    axes.set(xscale="log", xlabel="vectors in one tenant", ylabel="ms (p50)", ylim=0)
    axes.axhline(50, color="gray", linewidth=0.8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def sizes(rows: Sequence[int], tenants: int) -> Iterator[tuple[int, int]]:
    yield from ((count, 1) for count in rows)
    if tenants > 1:
        yield tenants * CHUNK, tenants


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [10_000, 100_000, 1_000_000, 10_000_000]
    parser.add_argument("--rows", type=int, nargs="*", default=default)
    parser.add_argument("--tenants", type=int, default=1_000, help="of 10,000 rows; 1: none")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--plot")
    given = parser.parse_args()
    if any(rows % CHUNK for rows in given.rows):
        parser.error(f"--rows: give multiples of {CHUNK:,}")
    done: list[Figures] = []
    for rows, tenants in sizes(given.rows, given.tenants):
        print(f"{rows:,} rows in {tenants:,} tenants: {machine()}", flush=True)
        done.append(measure(rows, tenants, given.folder))
        report(done)
    if given.plot:
        plot(done, given.plot)


if __name__ == "__main__":
    main()
