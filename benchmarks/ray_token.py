"""What the token of Ray's ports costs: the same Serve application with and without it.

    python benchmarks/ray_token.py [--rounds 3] [--seconds 4]

Starts a Ray of its own with HAProxy for each round and mode, in turns: a request that
ends in the ingress replica, as a read of features does; one that calls a backend
through a Serve handle; and the call of an actor.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Connection, machine, table

MODES = ("disabled", "token")
KINDS = ("ingress", "backend", "actor")
PORT = 8017


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.mode:
        print(json.dumps(measure(given.seconds)))
        return
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(given.rounds):
        for mode in MODES:
            with tempfile.TemporaryDirectory() as folder:
                found[mode].append(run_round(mode, given.seconds, Path(folder)))
    print(machine())
    rows = []
    for kind in KINDS:
        times = {mode: [1e3 * r[kind] for r in found[mode]] for mode in MODES}
        ranges = [f"{min(t):.2f} to {max(t):.2f}" for t in times.values()]
        medians = [f"{statistics.median(t):.2f}" for t in times.values()]
        rows.append([kind, medians[0], ranges[0], medians[1], ranges[1]])
    table("p50 of a call, ms", ["", "without", "rounds", "with a token", "rounds"], rows)


def run_round(mode: str, seconds: float, folder: Path) -> dict[str, float]:
    """The p50 of each kind of call, in seconds, in processes with this mode."""
    from shoal.runtime.configuration import Config
    from shoal.runtime.environment import cluster_environment

    (folder / "ray_token").write_text("0" * 64)
    env = {**os.environ, **cluster_environment(Config(), folder / "runtime.json")}
    env |= {"RAY_AUTH_MODE": mode}
    command = [sys.executable, __file__, "--mode", mode, "--seconds", str(seconds)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(seconds: float) -> dict[str, float]:
    """Start Ray as the environment says, and measure each kind of call."""
    import ray
    from fastapi import FastAPI
    from ray import serve

    app = FastAPI()

    @serve.deployment(logging_config={"enable_access_log": False})
    class Backend:
        async def work(self) -> int:
            return 1

    @serve.deployment(logging_config={"enable_access_log": False})
    @serve.ingress(app)
    class Ingress:
        def __init__(self, backend: Any) -> None:
            self.backend = backend

        @app.get("/ingress")
        async def ingress(self) -> int:
            return 1

        @app.get("/backend")
        async def call(self) -> int:
            return int(await self.backend.work.remote())

    @ray.remote
    class Actor:
        def work(self) -> int:
            return 1

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(Ingress.bind(Backend.bind()))
        found = asyncio.run(over_http(seconds))
        actor = Actor.remote()  # type: ignore[attr-defined]
        ray.get(actor.work.remote())
        found["actor"] = p50(seconds, lambda: ray.get(actor.work.remote()))
        return found
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


async def over_http(seconds: float) -> dict[str, float]:
    found = {}
    async with Connection("127.0.0.1", PORT) as http:
        for kind in ("ingress", "backend"):
            raw, times = http.request("GET", f"/{kind}"), []
            until = time.monotonic() + 1 + seconds
            while time.monotonic() < until:
                sent = time.perf_counter()
                status, _ = await http.send(raw)
                times.append(time.perf_counter() - sent)
                assert status == 200
            found[kind] = statistics.median(times[len(times) // 5 :])
    return found


def p50(seconds: float, call: Any) -> float:
    times, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        sent = time.perf_counter()
        call()
        times.append(time.perf_counter() - sent)
    return statistics.median(times)


if __name__ == "__main__":
    main()
