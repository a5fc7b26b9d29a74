"""Faults of the vectors store: killed processes, two writers, a full disk, S3."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shoal.contract.errors import Unavailable
from shoal.contract.vectors import VectorSchema
from shoal.stores.configuration import StoreConfig
from shoal.stores.lance_connections import open_table
from shoal.stores.lance_vectors import LanceVectors, erase, has_data, size

pytestmark = pytest.mark.anyio

SCHEMA = VectorSchema(4, {"at": "integer", "words": "tokens", "labels": "strings"})
PROGRAM = """
import asyncio, random, sys
from shoal.stores.configuration import StoreConfig
from shoal.stores.lance_vectors import LanceVectors

def row(key, version):
    return {"id": key, "version": version, "vectors": [[1, 2, 3, 4]], "words": "a b", "at": 1}

async def main():
    store = LanceVectors(StoreConfig.model_validate_json(sys.argv[1]), "acme")
    seed = int(sys.argv[2])
    random.seed(seed)
    %s

asyncio.run(main())
"""


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    return StoreConfig(online="redis://localhost", vectors=str(tmp_path / "v"), lake=str(tmp_path))


@pytest.fixture
async def store(config: StoreConfig) -> LanceVectors:
    opened = LanceVectors(config, "acme")
    await opened.ensure("items", SCHEMA)
    return opened


def start(config: StoreConfig, seed: int, body: str) -> "subprocess.Popen[str]":
    """Run the body of an asynchronous function in another process."""
    program = PROGRAM % textwrap.indent(textwrap.dedent(body), "    ").strip()
    secrets = {"online": config.online, "vectors": config.vectors, "lake": config.lake}
    return subprocess.Popen(
        [sys.executable, "-c", program, StoreConfig(**secrets).model_dump_json(), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    )


async def ids_on_disk(store: LanceVectors) -> Counter[str]:
    """How often each id is in the table, retired ones too."""
    opened = await open_table(store._location, "items")
    found = await opened.table.query().select(["id"]).to_arrow()
    return Counter(found["id"].to_pylist())


WRITE_MANY = """
for i in range(100_000):
    await store.upsert("items", [row(f"{seed}-{i}-{j}", "1") for j in range(20)])
    print(i, flush=True)
"""
OPTIMIZE = """
while True:
    print("begin", flush=True)
    await store.optimize("items")
"""
READ = """
while True:
    print(len(await store.nearest("items", [1, 0, 0, 0], limit=5)), flush=True)
"""


@pytest.mark.parametrize("body", [WRITE_MANY, OPTIMIZE, READ])
async def test_a_killed_process_loses_and_doubles_nothing(
    config: StoreConfig, store: LanceVectors, body: str
):
    await store.upsert("items", [{"id": f"own{i}", "version": "1"} for i in range(50)])
    said: list[str] = []
    for seed in range(3):
        process = start(config, seed, body)
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(4)]
        await store.upsert("items", [{"id": f"beside{seed}", "version": "1"}])
        time.sleep(0.01 * (seed + 1))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines()
        if body == WRITE_MANY:
            said += [f"{seed}-{i}-{j}" for i in map(int, lines) for j in range(20)]
    expected = {f"own{i}" for i in range(50)} | {f"beside{s}" for s in range(3)} | set(said)
    await store.optimize("items")
    found = await ids_on_disk(store)
    assert set(found.values()) == {1}
    assert expected <= set(found)
    await store.upsert("items", [{"id": "after", "version": "1", "vectors": [[9, 0, 0, 0]]}])
    hits = await store.nearest("items", [9, 0, 0, 0], limit=1)
    assert [hit.id for hit in hits] == ["after"]


SAME_IDS = """
for i in range(40):
    keys = random.sample(range(30), 3)
    versions = {f"k{key}": f"{random.randrange(1000):03}" for key in keys}
    if random.random() < 0.3:
        await store.retire("items", versions)
    else:
        await store.upsert("items", [row(key, version) for key, version in versions.items()])
    for key, version in versions.items():
        print(key, version)
    if i % 10 == 0:
        await store.optimize("items")
"""


async def check_greatest(store: LanceVectors, processes: "list[subprocess.Popen[str]]") -> None:
    """Of each id that the processes wrote, the greatest version is there, once."""
    greatest: dict[str, str] = {}
    for process in processes:
        out, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
        for line in out.splitlines():
            key, version = line.split()
            greatest[key] = max(greatest.get(key, ""), version)
    found = await store.versions("items", list(greatest))
    assert {key: version for key, (version, _) in found.items()} == greatest
    assert set((await ids_on_disk(store)).values()) == {1}


async def test_processes_that_write_the_same_ids_keep_the_greatest_version(
    config: StoreConfig, store: LanceVectors
):
    await check_greatest(store, [start(config, seed, SAME_IDS) for seed in range(3)])


async def test_processes_on_s3_keep_the_greatest_version(s3: Any):
    config = StoreConfig(
        online="redis://localhost", vectors=s3.lake(versioned=True), lake="/nowhere"
    )
    store = LanceVectors(config, "acme")
    await store.ensure("items", SCHEMA)
    body = SAME_IDS.replace("range(40)", "range(12)")
    await check_greatest(store, [start(config, seed, body) for seed in range(2)])
    assert await size(config, "acme") > 0
    await erase(config, "acme")
    assert not await has_data(config, "acme")
    assert await store.names() == []


async def test_an_object_store_that_is_away_is_unavailable(s3: Any):
    away = "s3://vectors/shoal?endpoint_override=http://127.0.0.1:1"
    config = StoreConfig(online="redis://localhost", vectors=away, lake="/nowhere")
    with pytest.raises(Unavailable):
        await LanceVectors(config, "acme").ensure("items", SCHEMA)


async def test_a_full_disk_is_an_error_that_passes(store: LanceVectors):
    await store.upsert("items", [{"id": "before", "version": "1"}])
    rows = [
        {"id": f"i{i}", "version": "1", "vectors": [[1, i, 0, 0]] * 200, "words": "x" * 5_000}
        for i in range(500)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Unavailable):
            await store.upsert("items", rows)
        assert await store.count("items") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert await store.upsert("items", rows) == []
    assert set((await ids_on_disk(store)).values()) == {1}
    assert await store.count("items") == 501


async def test_a_tenant_is_erased_with_all_files(config: StoreConfig, store: LanceVectors):
    await store.upsert("items", [{"id": "a", "version": "1"}, {"id": "b", "version": "1"}])
    await store.retire("items", {"b": "2"})
    other = LanceVectors(config, "other")
    await other.ensure("items", SCHEMA)
    assert await has_data(config, "acme")
    assert await size(config, "acme") > 0
    assert await erase(config, "acme") == 1
    assert not await has_data(config, "acme")
    assert not os.path.exists(os.path.join(config.vectors, "acme"))
    assert await other.names() == ["items"]
    await store.ensure("items", SCHEMA)
    assert await store.count("items") == 0
