"""Online serving, side by side: Shoal over HTTP, `feast serve` with the same features
and values, a bare uvicorn without Ray or Router, and a bare asyncio HMGET, on one
Redis.

shoal up --detach && python benchmarks/features_serving.py [--seconds 5] [--rounds 5]

One connection each, the same bare HTTP client for both servers, in turns, several
rounds; medians of the rounds. 20 features of one user: back to back, and at 500
requests a second. Then 100 users × 20 features in one request. The last table says who
used the processors while Shoal answered 500 requests a second in the last round: what
its tail is made of.
"""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson
from common import (
    Connection,
    at_rate,
    busy,
    free_port,
    machine,
    median,
    p99,
    private_redis,
    remove,
    spread,
    table,
)

from shoal import operator_client

USERS = 1_000
NAMES = [f"feature_{i:02d}" for i in range(20)]
IDS_100 = [str(i) for i in range(100)]


def rows() -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    return [
        {
            "user_id": str(i),
            "event_timestamp": now,
            **{n: round(random.Random(f"{i}{n}").random() * 100, 3) for n in NAMES},
        }
        for i in range(USERS)
    ]


Call = Callable[[int], Awaitable[Any]]
Round = dict[str, list[float]]
"""How the calls were made → how long each took, in seconds."""


async def measure(call: Call, seconds: float, used: list[tuple[str, ...]]) -> Round:
    for n in range(200):
        await call(n)
    took = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sent = time.perf_counter()
        await call(len(took))
        took.append(time.perf_counter() - sent)
    used.clear()
    with busy(used):
        at_500, since_due = await at_rate(call, 500, seconds)
    return {"back to back": took, "500/s": at_500, "500/s, since due": since_due}


@contextmanager
def peer_redis(url: str | None) -> Iterator[str]:
    """The Redis for the peers: Shoal's own, in its last database, which is emptied
    afterwards; or another, if that is not known.
    """
    import redis

    from shoal.runtime.operator_client import running_config

    if url is None:
        stores = running_config().stores
        if stores is None or not stores.online.startswith("redis://"):
            with private_redis() as port:
                yield f"redis://127.0.0.1:{port}/0"
            return
        url = stores.online.rsplit("/", 1)[0] + "/15"
    try:
        yield url
    finally:
        redis.Redis.from_url(url).flushdb()


def feast_server(port: int, redis_url: str, folder: Path) -> subprocess.Popen[bytes]:
    """`feast serve` over the same values in the same Redis server, through Feast's own
    Redis store.
    """
    warnings.simplefilter("ignore")
    import pandas as pd
    from feast import FeatureStore

    at = urlsplit(redis_url)
    redis_address = f"{at.hostname}:{at.port},db={at.path.strip('/') or 0}" + (
        f",password={at.password}" if at.password else ""
    )
    if at.username:
        redis_address += f",username={at.username}"
    fields = ", ".join(f'Field(name="{n}", dtype=Float64)' for n in NAMES)
    (folder / "feature_store.yaml").write_text(
        "project: bench\nprovider: local\nregistry: registry.db\noffline_store:\n  type: dask\n"
        "entity_key_serialization_version: 3\nonline_store:\n  type: redis\n"
        f"  connection_string: {redis_address}\n"
    )
    (folder / "definitions.py").write_text(
        "from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType\n"
        "from feast.types import Float64, String\n"
        'user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)\n'
        'source = FileSource(name="file", path="none.parquet", timestamp_field="event_timestamp")\n'
        f'schema = [Field(name="user_id", dtype=String), {fields}]\n'
        'push = PushSource(name="push", batch_source=source)\n'
        'wide = FeatureView(name="wide", entities=[user], schema=schema, source=push)\n'
    )
    feast = str(Path(sys.executable).with_name("feast"))
    data = pd.DataFrame(rows())
    data["event_timestamp"] = pd.to_datetime(data["event_timestamp"])
    data.to_parquet(folder / "none.parquet")
    subprocess.run([feast, "-c", str(folder), "apply"], check=True, capture_output=True)
    FeatureStore(str(folder)).push("push", data)
    command = [
        feast,
        "-c",
        str(folder),
        "serve",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "--no-access-log",
        "--workers",
        "1",
        "--max-requests",
        "0",
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


async def wait_for(port: int, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            async with Connection("127.0.0.1", port) as http:
                if (await http.send(http.request("GET", "/health")))[0] == 200:
                    return
        except OSError:
            pass
        await asyncio.sleep(0.5)
    raise SystemExit(f"nothing answers on port {port}")


def floor(port: int, redis_url: str) -> None:
    """Serve the same reading with nothing around it: a bare ASGI application under
    uvicorn.
    """
    import redis.asyncio as redis
    import uvicorn

    client = redis.from_url(redis_url)
    prefixes = [b'"%s":' % n.encode() for n in NAMES]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b"{}"
        if scope["path"] != "/health":
            user = parse_qs(scope["query_string"].decode())["user"][0]
            values = await client.hmget(f"bench:user:{user}", NAMES)
            body = (
                b'{"features":{'
                + b",".join(p + v[15:] for p, v in zip(prefixes, values, strict=True))
                + b"}}"
            )
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="error", access_log=False, lifespan="off"
    )


async def send_checked(http: Connection, raw: bytes) -> bytes:
    """The body of a response, which must be a success."""
    status, body = await http.send(raw)
    if status != 200:
        raise SystemExit(f"answered {status}: {body[:300]!r}")
    return body


def ask_shoal(http: Connection, key: str) -> Call:
    """Features of one user after the other, of Shoal or a server with its paths."""
    names = ",".join(NAMES)
    requests = [
        http.request("GET", f"/features?user={u}&features={names}", key) for u in range(USERS)
    ]
    return lambda n: send_checked(http, requests[n % USERS])


def ask_shoal_for_100(http: Connection, key: str) -> Call:
    body = {"entity": "user", "ids": IDS_100, "features": NAMES}
    request = http.request("POST", "/features/batch", key, orjson.dumps(body))
    return lambda _: send_checked(http, request)


def feast_request(http: Connection, ids: list[str]) -> bytes:
    body = {"features": [f"wide:{n}" for n in NAMES], "entities": {"user_id": ids}}
    return http.request("POST", "/get-online-features", body=orjson.dumps(body))


def ask_feast(http: Connection) -> Call:
    requests = [feast_request(http, [str(u)]) for u in range(USERS)]
    return lambda n: send_checked(http, requests[n % USERS])


def ask_feast_for_100(http: Connection) -> Call:
    request = feast_request(http, IDS_100)
    return lambda _: send_checked(http, request)


def ask_redis(client: Any) -> Call:
    return lambda n: client.hmget(f"bench:user:{n % USERS}", NAMES)


def ask_redis_for_100(client: Any) -> Call:
    async def hundred(_: int) -> None:
        pipe = client.pipeline(transaction=False)
        for u in IDS_100:
            pipe.hmget(f"bench:user:{u}", NAMES)
        await pipe.execute()

    return hundred


class Peer(NamedTuple):
    """A server: its port, and how to ask it for one user and for a hundred."""

    port: int
    one: Callable[[Connection], Call]
    hundred: Callable[[Connection], Call] | None
    speaks_http: bool = True


async def run(
    host: str,
    port: int,
    key: str,
    redis_url: str,
    feast_port: int,
    floor_port: int,
    seconds: float,
    rounds: int,
) -> None:
    import redis.asyncio as redis

    from shoal_features.values import pack
    from shoal_features.views import Feature, View

    client = redis.from_url(redis_url)
    now = time.time_ns() // 1000
    features = tuple(Feature(n, "float64") for n in NAMES)
    view = View("wide", "user", "user_id", "plain", features)
    ids = {f.name: view.identity(f) for f in features}
    for row in rows():
        await client.hset(
            f"bench:features:values:user:{row['user_id']}",
            mapping={n: pack(ids[n], "float64", row[n], now, now) for n in NAMES},
        )
    for peer_port in filter(None, (feast_port, floor_port)):
        await wait_for(peer_port)  # nothing starts while something is measured

    peers = {
        "Shoal over HTTP": Peer(
            port, lambda http: ask_shoal(http, key), lambda http: ask_shoal_for_100(http, key)
        ),
        "feast serve": Peer(feast_port, ask_feast, ask_feast_for_100),
        "uvicorn and HMGET alone": Peer(floor_port, lambda http: ask_shoal(http, key), None),
        "bare HMGET, redis-py": Peer(
            floor_port, lambda _: ask_redis(client), lambda _: ask_redis_for_100(client), False
        ),
    }
    if not feast_port:
        del peers["feast serve"]
    measured: dict[str, list[Round]] = {name: [] for name in peers}
    hundreds: dict[str, list[float]] = {}
    used: list[tuple[str, ...]] = []
    for n in range(rounds):
        for name, peer in peers.items():
            async with Connection(host, peer.port) as http:
                call = peer.one(http)
                if n == 0 and peer.speaks_http:
                    check_answer(name, orjson.loads(await call(7)))
                measured[name].append(
                    await measure(call, seconds, used if peer.port == port else [])
                )
                if peer.hundred is not None and n == rounds - 1:
                    hundreds[name] = await back_to_back(peer.hundred(http), 100)
        print(f"round {n + 1} of {rounds}", file=sys.stderr)
    await client.aclose()
    report(measured, hundreds, used, seconds)


def check_answer(name: str, answer: dict[str, Any]) -> None:
    """Check that a server answers what was written."""
    if name == "feast serve":
        values = dict(
            zip(
                answer["metadata"]["feature_names"],
                (r["values"][0] for r in answer["results"]),
                strict=True,
            )
        )
        answer = {
            "features": {n: round(values[n], 6) for n in NAMES}
        }  # Float64 and back through pandas
    assert answer["features"] == {n: rows()[7][n] for n in NAMES}, answer


def report(
    measured: dict[str, list[Round]],
    hundreds: dict[str, list[float]],
    used: list[tuple[str, ...]],
    seconds: float,
) -> None:
    lines = []
    for how in ("back to back", "500/s", "500/s, since due"):
        ours = [each[how] for each in measured["Shoal over HTTP"]]
        for name, found in measured.items():
            times = [each[how] for each in found]
            middle = [
                f"{median([float(v) for v in column]):.2f}"
                for column in zip(*map(spread, times), strict=True)
            ]
            rate = (
                f"{median([len(t) / sum(t) for t in times]):,.0f}" if how == "back to back" else ""
            )
            ratios = [
                f"{median([of(t) / of(o) for t, o in zip(times, ours, strict=True)]):.2f}"
                for of in (median, p99)
            ]
            lines.append((f"{name}, {how}", *middle, rate, " ".join(ratios)))
    head = ("server", "p50 ms", "p95 ms", "p99 ms", "requests/s", "p50, p99 × Shoal")
    table("20 features of one user, one connection, medians of the rounds", head, lines)
    base = median(hundreds["Shoal over HTTP"])
    table(
        "100 users × 20 features in one request",
        ("server", "p50 ms", "p95 ms", "p99 ms", "p50 × Shoal"),
        [(name, *spread(times), f"{median(times) / base:.2f}") for name, times in hundreds.items()],
    )
    head = ("process", "CPU s", "of all processors", "preempted/s")
    table(f"Who used the processors in {seconds:.0f} s at 500 requests/s on Shoal", head, used)


async def back_to_back(call: Call, n: int) -> list[float]:
    took = []
    for i in range(n + 10):
        sent = time.perf_counter()
        await call(i)
        took.append(time.perf_counter() - sent)
    return took[10:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument(
        "--redis",
        help="the Redis for the peers, redis://…; by default Shoal's own, where it is known",
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-feast", action="store_true")
    parser.add_argument("--floor", nargs=2, metavar=("PORT", "REDIS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.floor:
        floor(int(arguments.floor[0]), arguments.floor[1])
        return
    host, port = arguments.url.split("//")[1].split(":")
    print(machine())
    tenant, folder = f"bench-serving-{os.getpid()}", Path(tempfile.mkdtemp(prefix="shoal-serving-"))
    servers: list[subprocess.Popen[bytes]] = []
    with operator_client() as operator, peer_redis(arguments.redis) as redis_url:
        operator.platform.create_tenant(id=tenant)
        try:
            key = operator.platform.create_key(id=tenant, role="editor")["key"]
            # back to back is more than a tenant may ask by default
            operator.platform.put_limits(id=tenant, capability="*", body={"rps": 1e6, "burst": 1e6})
            with operator_client(tenant) as mine:
                view = {"name": "wide", "entity": "user", "join_key": "user_id", "kind": "plain"}
                mine.features.apply(
                    views=[{**view, "features": [{"name": n, "dtype": "float64"} for n in NAMES]}]
                )
                mine.features.push(view="wide", rows=rows())
            feast_port = 0 if arguments.no_feast else free_port()
            if feast_port:
                servers.append(feast_server(feast_port, redis_url, folder))
            floor_port = free_port()
            command = [sys.executable, __file__, "--floor", str(floor_port), redis_url]
            servers.append(subprocess.Popen(command, start_new_session=True))
            asyncio.run(
                run(
                    host,
                    int(port),
                    key,
                    redis_url,
                    feast_port,
                    floor_port,
                    arguments.seconds,
                    arguments.rounds,
                )
            )
        finally:
            for server in servers:
                os.killpg(server.pid, 15)
                server.wait(20)
            remove(operator, tenant)
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
