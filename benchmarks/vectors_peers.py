"""Shoal's vectors store beside what a user would pick instead, in one run: speed with
and without a filter, hybrid, recall, memory, disk, idle tenants, a kill in mid-write,
and several processes at one folder.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install lancedb qdrant-client qdrant-edge-py chromadb \
        milvus-lite pymilvus psutil numpy
    python benchmarks/vectors_peers.py --peers /tmp/peers/bin/python [--rows 10000]
        [--only shoal chroma]

Each engine runs in processes of its own; the peers' are not dependencies of Shoal. The
vectors are clustered noise with a seed; the texts are twenty words by Zipf's law.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from vectors_engines import DIMENSION, ENGINES, Engine, Rows

CLUSTERS, SEED, LIMIT = 256, 7, 20
WORDS = np.array([f"word{i}" for i in range(2_000)])
CHANCE = 1 / np.arange(1, 2_001) / (1 / np.arange(1, 2_001)).sum()


def make_rows(start: int, count: int) -> Rows:
    """Rows with the numbers from `start`; one in a hundred is on the board `small`."""
    centres = np.random.default_rng(SEED).standard_normal((CLUSTERS, DIMENSION))
    random = np.random.default_rng([SEED, start])
    vectors = centres[random.integers(0, CLUSTERS, count)]
    vectors = vectors + random.standard_normal((count, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = random.choice(WORDS, (count, 20), p=CHANCE)
    return [
        {
            "id": start + i,
            "vector": vectors[i].astype(np.float32),
            "board": "small" if (start + i) % 100 == 0 else f"board{(start + i) % 7}",
            "text": " ".join(words[i]),
        }
        for i in range(count)
    ]


def memory() -> float:
    """MB of this process and its children: what is theirs alone."""
    here = psutil.Process()
    family = [here, *here.children(recursive=True)]
    return sum(process.memory_full_info().uss for process in family) / 1e6


def disk(folder: Path) -> float:
    """MB of its blocks."""
    return sum(512 * path.lstat().st_blocks for path in folder.rglob("*")) / 1e6


def times(call: Callable[[int], Any], count: int) -> str:
    """p50 and p95 in ms."""
    for n in range(5):
        call(n)
    took = []
    for n in range(count):
        began = time.perf_counter()
        call(n)
        took.append(1e3 * (time.perf_counter() - began))
    return f"{statistics.median(took):.1f}, {sorted(took)[int(0.95 * count)]:.1f}"


def speed(engine: Engine, folder: Path, count: int) -> dict[str, Any]:
    """One tenant of `count` rows: loading, searching, and a small write."""
    before, rows = memory(), make_rows(0, count)
    vectors, queries = np.stack([row["vector"] for row in rows]), make_rows(10_000_000, 100)
    engine.create("acme")
    began = time.perf_counter()
    for start in range(0, count, 1_000):
        engine.upsert("acme", rows[start : start + 1_000])
    engine.settle("acme")
    loading = time.perf_counter() - began
    made = disk(folder)
    found, right = 0, 0
    for query in queries:
        for board in (None, "small"):
            of = [i for i in range(count) if board is None or rows[i]["board"] == board]
            best = np.array(of)[np.argsort(-(vectors[of] @ query["vector"]))[:LIMIT]]
            hits = engine.nearest("acme", query["vector"], board, LIMIT)
            found, right = found + len(set(hits) & set(best.tolist())), right + len(best)
    ask = [(query["vector"], " ".join(query["text"].split()[:3])) for query in queries]
    asked = {
        "search": times(lambda n: engine.nearest("acme", ask[n][0], None, LIMIT), 100),
        "… on a board of 1 %": times(
            lambda n: engine.nearest("acme", ask[n][0], "small", LIMIT), 100
        ),
        "hybrid": times(lambda n: engine.hybrid("acme", *ask[n], None, LIMIT), 100),
    }
    missed, fresh = 0, make_rows(20_000_000, 250)

    def write(n: int) -> None:
        engine.upsert("acme", fresh[5 * n : 5 * n + 5])

    asked["write of 5 rows"] = times(write, 40)
    for n in range(40, 50):
        write(n)
        missed += fresh[5 * n]["id"] not in engine.nearest("acme", fresh[5 * n]["vector"], None, 5)
    return {
        "rows/s in": f"{count / loading:,.0f}",
        **asked,
        "recall@20": f"{found / right:.3f}",
        "own write not found": f"{missed} of 10",
        "memory, MB": f"{memory() - before - vectors.nbytes / 1e6:.0f}",
        "disk, MB": f"{made:.0f}",
    }


def idle(engine: Engine, folder: Path, tenants: int) -> dict[str, Any]:
    """Many tenants of 50 rows, each written and searched once; two minutes at most."""
    rows, before, began, made = make_rows(0, 50), memory(), time.perf_counter(), 0
    for n in range(tenants):
        tenant = f"t{n}"
        engine.create(tenant)
        engine.upsert(tenant, rows)
        engine.nearest(tenant, rows[0]["vector"], None, LIMIT)
        made += 1
        if time.perf_counter() - began > 120:
            break
    return {
        "tenants": f"{made:,}",
        "ms each": f"{1e3 * (time.perf_counter() - began) / made:.0f}",
        "memory each, KB": f"{1e3 * (memory() - before) / made:.0f}",
        "disk each, KB": f"{1e3 * disk(folder) / made:.0f}",
    }


def write(engine: Engine, first: int, batches: int) -> None:
    """Write batches of five rows; say which are acknowledged."""
    engine.create("acme")
    print("ready", flush=True)
    for n in range(batches):
        engine.upsert("acme", make_rows(first + 5 * n, 5))
        print(first + 5 * n + 5, flush=True)


def see(engine: Engine) -> None:
    """Say how many rows there are whenever asked."""
    engine.create("acme")
    for _ in sys.stdin:
        print(engine.count("acme"), flush=True)


def look(engine: Engine, end: int) -> None:
    """Say how many of the 100 rows before `end` a search does not find."""
    engine.create("acme")
    missing = 0
    for start in range(max(end - 100, 0), end, 5):
        for row in make_rows(start, 5):
            missing += row["id"] not in engine.nearest("acme", row["vector"], None, 5)
    print(missing, flush=True)


class Child:
    """This script in another process, at an engine and a folder."""

    def __init__(self, python: str, task: str, engine: str, folder: Path, *more: Any) -> None:
        command = [python, __file__, "--task", task, engine, str(folder), *map(str, more)]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self) -> str:
        assert self.process.stdin
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.fault()
        return self.line() or self.fault()

    def rest(self) -> list[str]:
        out, _ = self.process.communicate()
        return out.splitlines()

    def kill(self) -> None:
        """With its own children, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def fault(self) -> str:
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return (lines or ["failed"])[-1][:100]


def killed(python: str, engine: str, folder: Path) -> dict[str, str]:
    """Kill a writer in mid-write, three times; look for what it acknowledged last."""
    lost, first, faults = 0, 0, list[str]()
    for _ in range(3):
        child = Child(python, "write", engine, folder, first, 100_000)
        if child.line() != "ready":
            return {"lost after three kills": child.fault()}
        deadline, acknowledged = time.monotonic() + 2, first
        while time.monotonic() < deadline:
            acknowledged = int(child.line() or acknowledged)
        child.kill()
        looking = Child(python, "look", engine, folder, acknowledged)
        answer = looking.rest()
        if answer and answer[-1].isdigit():
            lost += int(answer[-1])
        else:
            faults.append(looking.fault())
        first = acknowledged
    return {"lost after three kills": "; ".join(faults) or f"{lost}"}


def together(python: str, engine: str, folder: Path) -> dict[str, str]:
    """Two processes write while a third reads."""
    reader = Child(python, "see", engine, folder)
    reader.ask()
    writers = [Child(python, "write", engine, folder, 5_000 * n, 100) for n in range(2)]
    written = [len(child.rest()) - 1 for child in writers]
    faults = [w.fault() for w, n in zip(writers, written, strict=True) if n < 100]
    seen = reader.ask()
    reader.kill()
    rows = 5 * sum(max(n, 0) for n in written)
    return {
        "two writers": faults[0] if faults else f"{rows:,} rows",
        "seen by a third": f"{seen} rows" if seen.isdigit() else seen,
    }


def run_task(task: str, name: str, folder: Path, numbers: list[int]) -> None:
    engine = ENGINES[name](folder)
    if task == "write":
        write(engine, *numbers)
    elif task == "see":
        see(engine)
    elif task == "look":
        look(engine, *numbers)
    else:
        answer = (speed if task == "speed" else idle)(engine, folder, *numbers)
        print(json.dumps(answer), flush=True)
    engine.close()


def measure(python: str, name: str, rows: int, tenants: int) -> dict[str, str]:
    """All figures of an engine."""
    found: dict[str, str] = {}
    for task, number in (("speed", rows), ("idle", tenants)):
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
            child = Child(python, task, name, Path(folder) / "data", number)
            lines = child.rest()
            answer = lines[-1] if lines else ""
            found |= json.loads(answer) if answer[:1] == "{" else {task: child.fault()}
    for faults in (killed, together):
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
            found |= faults(python, name, Path(folder) / "data")
    return found


def main() -> None:
    from common import machine

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=sys.executable, help="their Python")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        task, name, folder, *numbers = given.task
        run_task(task, name, Path(folder), [int(number) for number in numbers])
        return
    print(f"{machine()}; {given.rows:,} rows\n")
    columns = {}
    for name in given.only:
        python = sys.executable if name == "shoal" else given.peers
        columns[name] = measure(python, name, given.rows, given.tenants)
        print(f"{name}: {columns[name]}", file=sys.stderr, flush=True)
    heads = list(dict.fromkeys(head for column in columns.values() for head in column))
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for head in heads:
        cells = [column.get(head, "") for column in columns.values()]
        print(f"| {head} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
