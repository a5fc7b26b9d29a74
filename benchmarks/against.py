"""This checkout against another one, in alternating rounds of one run.

    sudo python benchmarks/against.py --base DIR [--rounds 10] [--seconds 1.5]

Both platforms run at once, each in a network and mount namespace of its own (needs root
and Debian's iproute2), so that they have the same ports and do not meet. In each round
every request is measured on the one and then on the other, back to back on one
connection through HAProxy; the tables show medians of the rounds' p50 and the quartiles
of their ratio. `DIR` is a checkout, such as one of `git worktree add DIR REVISION`.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import Connection, machine, table

HERE = Path(__file__).parents[1]
NAMES = [f"feature_{i:02d}" for i in range(20)]
USERS, ITEMS = 1_000, 2_000
KINDS = ("no-op", "parameter", "features", "batch", "search")
WORDS = (HERE / "README.md").read_text("utf-8").split()
NOOP = """
import shoal
from fastapi import APIRouter, Depends

context = shoal.requires("read:own") if hasattr(shoal, "requires") else shoal.current_tenant

def routes(services):
    router = APIRouter()

    @router.get("")
    async def nothing(ctx: shoal.TenantContext = Depends(context)):
        return {}

    @router.get("/number")
    async def number(n: int, ctx: shoal.TenantContext = Depends(context)):
        return {"n": n}

    return router

@shoal.hookimpl
def shoal_capabilities():
    return [shoal.Capability("noop", "Does nothing.", routes=routes)]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.5, help="per request, side and round")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        asyncio.run(work(arguments.worker))
        return
    print(machine())
    sides = {"base": start(arguments.base.resolve(), "base"), "this": start(HERE, "this")}
    try:
        for name, side in sides.items():
            print(f"{name}: {receive(side)}", flush=True)
        found: dict[str, dict[str, list[float]]] = {k: {"base": [], "this": []} for k in KINDS}
        for number in range(arguments.rounds):
            order = list(sides) if number % 2 else list(sides)[::-1]
            for kind in KINDS:
                for name in order:
                    send(sides[name], {"kind": kind, "seconds": arguments.seconds})
                    found[kind][name].append(receive(sides[name]))
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        report(found)
    finally:
        for name, side in sides.items():
            stop(side, name)


def report(found: dict[str, dict[str, list[float]]]) -> None:
    rows = []
    for kind, sides in found.items():
        ratios = [t / b for b, t in zip(sides["base"], sides["this"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        base, this = (statistics.median(sides[name]) for name in ("base", "this"))
        rows.append((kind, f"{base:.3f}", f"{this:.3f}", f"{middle:.3f}", f"{low:.3f}–{high:.3f}"))
    head = ("request", "base p50 ms", "this p50 ms", "ratio", "quartiles")
    table("Medians of the rounds", head, rows)


def start(tree: Path, name: str) -> "subprocess.Popen[str]":
    space = f"shoal-{name}"
    subprocess.run(["ip", "netns", "add", space], check=True)
    subprocess.run(["ip", "netns", "exec", space, "ip", "link", "set", "lo", "up"], check=True)
    shell = f'mount -t tmpfs none /tmp && exec "{sys.executable}" "{__file__}" "$@"'
    isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, "sh"]
    command = ["ip", "netns", "exec", space, *isolated, "--base", ".", "--worker", str(tree)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def stop(side: "subprocess.Popen[str]", name: str) -> None:
    if side.stdin:
        side.stdin.close()
    side.wait(120)
    subprocess.run(["ip", "netns", "delete", f"shoal-{name}"], check=True)


def send(side: "subprocess.Popen[str]", message: Any) -> None:
    assert side.stdin
    side.stdin.write(json.dumps(message) + "\n")
    side.stdin.flush()


def receive(side: "subprocess.Popen[str]") -> Any:
    assert side.stdout
    line = side.stdout.readline()
    if not line:
        raise SystemExit("a side ended; its output is above")
    return json.loads(line)


async def work(tree: Path) -> None:
    """One side: start the platform, load data, measure as standard input says."""
    folder = Path(tempfile.mkdtemp())
    plugin = folder / "site"
    (plugin / "noop-1.dist-info").mkdir(parents=True)
    (plugin / "noop.py").write_text(NOOP)
    (plugin / "noop-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: noop\n")
    (plugin / "noop-1.dist-info/entry_points.txt").write_text("[shoal]\nnoop = noop\n")
    paths = [tree / "platform", tree / "plugins", plugin]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "SHOAL_DATA": str(folder / "data"),
        "SHOAL_ROUTER__LIMITS__RPS": "1000000",
        "SHOAL_ROUTER__LIMITS__BURST": "1000000",
        "SHOAL_DISABLED": '["anomalies", "experiments", "optimizer"]',
        "HF_HUB_OFFLINE": "1",
    }
    package = (tree / "platform/shoal/cli").is_dir()
    command = [sys.executable, "-m", "shoal.cli.main" if package else "shoal.cli"]

    def shoal(*words: str) -> str:
        done = subprocess.run([*command, *words], env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    began = time.monotonic()
    try:
        shoal("up", "--detach")
        ready = time.monotonic() - began
        key = json.loads(shoal("tenants", "create", "acme", "--json"))["key"]
        async with Connection("127.0.0.1", 8000) as http:
            await load(http, key)
            print(json.dumps(f"{tree}, ready in {ready:.0f} s"), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                message = json.loads(line)
                took = await measure(http, key, message["kind"], message["seconds"])
                print(json.dumps(took), flush=True)
    finally:
        shoal("down")


async def load(http: Connection, key: str) -> None:
    async def post(path: str, body: Any, method: str = "POST") -> None:
        raw = http.request(method, path, key, json.dumps(body).encode())
        status, answer = await http.send(raw)
        assert status < 300, answer

    view = {"name": "wide", "entity": "user", "join_key": "user_id", "kind": "plain"}
    features = [{"name": name, "dtype": "float64"} for name in NAMES]
    await post("/features/definitions", {"views": [{**view, "features": features}]}, "PUT")
    now = datetime.now(UTC).isoformat()
    rows = [
        {"user_id": str(user), "event_timestamp": now, **{n: round(user / 7, 3) for n in NAMES}}
        for user in range(USERS)
    ]
    await post("/features/views/wide/rows", {"rows": rows})
    rng = random.Random(0)
    items = [
        {
            "id": str(i),
            "board_id": f"b{i % 20}",
            "type": "item",
            "title": " ".join(rng.sample(WORDS, 4)),
            "text": " ".join(rng.sample(WORDS, 12)),
            "updated_at": now,
        }
        for i in range(ITEMS)
    ]
    for at in range(0, ITEMS, 200):
        await post("/search/items", items[at : at + 200])


async def measure(http: Connection, key: str, kind: str, seconds: float) -> float:
    """The p50 in milliseconds of requests sent back to back."""
    rng = random.Random()
    names = ",".join(NAMES)
    ids = [str(user) for user in range(100)]
    batch = json.dumps({"entity": "user", "ids": ids, "features": NAMES}).encode()

    def request() -> bytes:
        if kind == "no-op":
            return http.request("GET", "/noop", key)
        if kind == "parameter":
            return http.request("GET", "/noop/number?n=7", key)
        if kind == "features":
            return http.request(
                "GET", f"/features?user={rng.randrange(USERS)}&features={names}", key
            )
        if kind == "batch":
            return http.request("POST", "/features/batch", key, batch)
        words = "+".join(word for word in rng.sample(WORDS, 8) if word.isalpha()) or "plan"
        return http.request("GET", f"/search?q={words}", key)

    took = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(took) < 20:
        raw = request()
        began = time.perf_counter()
        status, answer = await http.send(raw)
        took.append(time.perf_counter() - began)
        assert status == 200, answer
    return statistics.median(took[len(took) // 10 :]) * 1e3


if __name__ == "__main__":
    main()
