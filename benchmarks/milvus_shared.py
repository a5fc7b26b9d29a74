"""Many small tenants in one shared collection of Milvus: latency and recall.

    python benchmarks/milvus_shared.py http://127.0.0.1:19530 --vectors 100000

Vectors are clustered noise with a seed. Each query is one tenant's; the truth is brute
force over its rows.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from shoal.contract.vectors import Equals, VectorSchema
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.milvus_vectors import MilvusVectors
from shoal.testing.servers import RedisServer

DIMENSION, BOARDS, QUERIES, LIMIT = 384, 10, 300, 20
SCHEMA = VectorSchema(DIMENSION, {"board": "string", "at": "integer"})


def tenant_vectors(tenant: int, count: int) -> np.ndarray:
    """Some clusters of a tenant's own, of length 1."""
    random = np.random.default_rng(tenant)
    centres = random.normal(size=(5, DIMENSION))
    made = centres[random.integers(0, 5, count)] + random.normal(size=(count, DIMENSION))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


async def measure(config: StoreConfig, vectors: int, tenants: int) -> dict[str, object]:
    each = vectors // tenants
    began = time.perf_counter()
    gate = asyncio.Semaphore(4)

    async def load(tenant: int) -> None:
        async with gate:
            store = MilvusVectors(config, f"t{tenant}")
            await store.ensure("items", SCHEMA)
            rows = [
                {"id": f"i{i}", "vectors": v[None], "board": f"b{i % BOARDS}", "at": i}
                for i, v in enumerate(tenant_vectors(tenant, each))
            ]
            await store.upsert("items", rows)

    await asyncio.gather(*(load(tenant) for tenant in range(tenants)))
    loaded = time.perf_counter() - began
    await asyncio.sleep(5)  # so that no read waits for a write
    random = np.random.default_rng(0)
    report: dict[str, object] = {"vectors": vectors, "tenants": tenants, "load_s": round(loaded, 1)}
    for name, filter in (("tenant", []), ("tenant and board", [Equals("board", "b3")])):
        times, recalls = [], []
        for _ in range(QUERIES):
            tenant = int(random.integers(tenants))
            truth = tenant_vectors(tenant, each)
            query = truth[random.integers(each)] + 0.05 * random.normal(size=DIMENSION)
            kept = [i for i in range(each) if not filter or i % BOARDS == 3]
            best = sorted(kept, key=lambda i: -float(truth[i] @ query))[:LIMIT]
            store = MilvusVectors(config, f"t{tenant}")
            began = time.perf_counter()
            hits = await store.nearest("items", query.tolist(), limit=LIMIT, filter=filter)
            times.append(1_000 * (time.perf_counter() - began))
            recalls.append(len({h.id for h in hits} & {f"i{i}" for i in best}) / len(best))
        p50, p95 = np.percentile(times, [50, 95])
        report[name] = {
            "p50_ms": round(float(p50), 1),
            "p95_ms": round(float(p95), 1),
            "recall": round(float(np.mean(recalls)), 4),
        }
    return report


async def run(config: StoreConfig, vectors: int, tenants: int) -> None:
    try:
        print(json.dumps(await measure(config, vectors, tenants)))
    finally:
        for tenant in range(tenants):
            await MilvusVectors(config, f"t{tenant}").drop("items")
        await close_connections()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        try:
            config = StoreConfig(online=redis.url, vectors=given.uri, lake=folder)
            asyncio.run(run(config, given.vectors, given.tenants))
        finally:
            redis.stop()


if __name__ == "__main__":
    main()
