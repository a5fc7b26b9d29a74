"""What the Router costs: a capability that does nothing, behind the Router, against the
same as a bare Serve application; and an operation with a parameter, which FastAPI
checks in both.

    python benchmarks/router.py [--seconds 5]

Starts a Shoal of its own, deploys both applications to it, and loads them in turn,
several times, in one run, with a client that only writes and reads bytes.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Connection, machine

BARE = """
from fastapi import FastAPI
from ray import serve

app = FastAPI()

@app.get("")
@app.get("/")
async def nothing():
    return {}

@app.get("/number")
async def number(n: int):
    return {"n": n}

@serve.ingress(app)
class Bare: ...

"""

NOOP = """
from fastapi import APIRouter, Depends
from shoal import Capability, TenantContext, hookimpl, requires

def routes(services):
    router = APIRouter()
    @router.get("")
    async def nothing(ctx: TenantContext = Depends(requires("read:own"))):
        return {}
    @router.get("/number")
    async def number(n: int, ctx: TenantContext = Depends(requires("read:own"))):
        return {"n": n}
    return router

@hookimpl
def shoal_capabilities():
    return [Capability("noop", "Does nothing.", routes=routes)]
"""

DEPLOY = """
import os, sys, json
runtime = json.load(open(sys.argv[1]))
from shoal.runtime.configuration import Config
from shoal.runtime import cluster
from shoal.runtime.environment import cluster_environment
from shoal.runtime.serve_config import LOGGING
from pathlib import Path
config = Config(**runtime)
os.environ.update(cluster_environment(config, Path(sys.argv[1])))
cluster.connect(f"{config.host}:{config.ray_port}")
from ray import serve
import bare
deployment = serve.deployment(
    name="bare",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=100,
    logging_config=LOGGING,
)
serve.run(deployment(bare.Bare).bind(), name="bare", route_prefix="/bare")
"""


PATHS = {"": "", "/number?n=7": ", a parameter"}


async def load(
    port: int, path: str, key: str, connections: int, seconds: float
) -> tuple[list[float], float]:
    """Latencies in seconds, and requests per second, of closed loops over `connections`
    connections.
    """
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def loop() -> None:
        async with Connection("127.0.0.1", port) as http:
            raw = http.request("GET", path, key)
            while (start := time.perf_counter()) < end:
                status, body = await http.send(raw)
                assert status == 200, body
                took.append(time.perf_counter() - start)

    began = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(connections)))
    return took, len(took) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = folder / "site"
        (site / "noop-1.dist-info").mkdir(parents=True)
        (site / "noop-1.dist-info/METADATA").write_text(
            "Metadata-Version: 2.1\nName: noop\nVersion: 1\n"
        )
        (site / "noop-1.dist-info/entry_points.txt").write_text("[shoal]\nnoop = noop\n")
        (site / "noop.py").write_text(NOOP)
        (site / "bare.py").write_text(BARE)
        (folder / "deploy.py").write_text(DEPLOY)
        limits = {"SHOAL_ROUTER__LIMITS__RPS": "1000000", "SHOAL_ROUTER__LIMITS__BURST": "1000000"}
        disabled = json.dumps(["search", "features", "anomalies", "experiments", "optimizer"])
        env = {
            **os.environ,
            **limits,
            "SHOAL_DATA": str(folder / "data"),
            "PYTHONPATH": str(site),
            "SHOAL_DISABLED": disabled,
        }

        def shoal(*words: str) -> str:
            return subprocess.run(
                [sys.executable, "-m", "shoal.cli.main", *words, "--json"],
                env=env,
                check=True,
                capture_output=True,
                text=True,
            ).stdout

        try:
            shoal("up", "--detach")
            key = json.loads(shoal("tenants", "create", "bench"))["key"]
            subprocess.run(
                [sys.executable, folder / "deploy.py", folder / "data/runtime.json"],
                env=env,
                check=True,
                capture_output=True,
            )
            port = json.loads((folder / "data/runtime.json").read_text())["port"]
            table: dict[tuple[str, str, int], list[tuple[list[float], float]]] = {}
            for _ in range(given.rounds + 1):  # the first warms up
                for path in PATHS:
                    for connections in (1, 8):
                        for what in ("bare", "noop"):
                            found = asyncio.run(
                                load(port, f"/{what}{path}", key, connections, given.seconds)
                            )
                            table.setdefault((what, path, connections), []).append(found)
        finally:
            shoal("down")
    print(f"{machine()}, medians of {given.rounds} rounds of {given.seconds:g} s\n")
    print(
        f"{'application':<38}{'connections':>12}"
        f"{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'requests/s':>12}"
    )
    result: dict[tuple[str, str, int], tuple[float, float]] = {}
    for (what, path, connections), rounds in table.items():
        rounds = rounds[1:]
        quantiles = [statistics.quantiles(took, n=100) for took, _ in rounds]
        p50, p95, p99 = (statistics.median(q[i] for q in quantiles) * 1e3 for i in (49, 94, 98))
        rate = statistics.median(r for _, r in rounds)
        result[what, path, connections] = (p50, rate)
        label = ("bare Serve application" if what == "bare" else "behind the Router") + PATHS[path]
        print(f"{label:<38}{connections:>12}{p50:>9.3f}{p95:>9.3f}{p99:>9.3f}{rate:>12.0f}")
    for path, connections in itertools.product(PATHS, (1, 8)):
        (p, r), (bp, br) = result["noop", path, connections], result["bare", path, connections]
        print(
            f"\nat {connections} connection(s){PATHS[path]}: "
            f"p50 {p / bp:.2f} times the bare one's, throughput {r / br:.2f} times"
        )


if __name__ == "__main__":
    main()
