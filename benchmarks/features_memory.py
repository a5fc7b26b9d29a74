"""Bytes per entity in Redis: 20 features in a hash, as a key each, and as Feast's own
Redis store lays them out.
"""

import json
import random
import time
import warnings

import redis
from common import machine, private_redis, table

N = 20_000
NAMES = [f"feature_{i:02d}" for i in range(20)]


def values(i: int) -> list[float | int]:
    draw = random.Random(i)
    return [draw.randrange(1000) if n % 2 else round(draw.random() * 100, 3) for n in range(20)]


def hash_per_entity(client: redis.Redis) -> None:
    from shoal_features.values import pack

    now = time.time_ns() // 1000
    pipe = client.pipeline(transaction=False)
    for i in range(N):
        fields = {
            n: pack(b"abcd", "int64" if k % 2 else "float64", v, now, now)
            for k, (n, v) in enumerate(zip(NAMES, values(i), strict=True))
        }
        pipe.hset(f"acme:user:{i}", mapping=fields)
        if i % 1000 == 999:
            pipe.execute()


def key_per_feature(client: redis.Redis) -> None:
    now = time.time_ns() // 1000
    pipe = client.pipeline(transaction=False)
    for i in range(N):
        for n, v in zip(NAMES, values(i), strict=True):
            pipe.set(f"acme:user:{i}:{n}", f"{now} {now} l {v}")
        if i % 1000 == 999:
            pipe.execute()


def json_per_entity(client: redis.Redis) -> None:
    now = time.time_ns() // 1000
    pipe = client.pipeline(transaction=False)
    for i in range(N):
        pipe.set(
            f"acme:user:{i}",
            json.dumps({"t": now, "c": now, **dict(zip(NAMES, values(i), strict=True))}),
        )
        if i % 1000 == 999:
            pipe.execute()


def feasts_own(client: redis.Redis) -> None:
    """Feast's layout: a hash at the serialized entity key, a field per feature that is
    the hash of view and name, a protobuf each.
    """
    warnings.simplefilter("ignore")
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.infra.online_stores.helpers import _mmh3
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    stamp.GetCurrentTime()
    pipe = client.pipeline(transaction=False)
    for i in range(N):
        key = EntityKey(
            join_keys=["tenant_id", "user_id"],
            entity_values=[Value(string_val="acme"), Value(string_val=str(i))],
        )
        fields = {b"_ts:wide": stamp.SerializeToString()}
        for k, (n, v) in enumerate(zip(NAMES, values(i), strict=True)):
            fields[_mmh3(f"wide:{n}")] = (
                Value(int64_val=int(v)) if k % 2 else Value(double_val=v)
            ).SerializeToString()
        pipe.hset(
            serialize_entity_key(key, entity_key_serialization_version=3) + b"shoal", mapping=fields
        )
        if i % 1000 == 999:
            pipe.execute()


def windows(client: redis.Redis) -> None:
    """100 events in a sliding window of each of a thousand users (the row is per
    event).
    """
    pipe = client.pipeline(transaction=False)
    for i in range(N // 100):
        pipe.zadd(
            f"{{acme:user:{i}}}:activity",
            {f"shoal\x1f{i:016x}{k:016x}": 1_763_900_000_000_000 + k for k in range(100)},
        )
    pipe.execute()


def main() -> None:
    print(machine())
    rows, base = [], 0.0
    with private_redis() as port:
        client = redis.Redis(port=port)
        for name, fill in (
            ("Shoal: a hash per entity, both times and type per value", hash_per_entity),
            ("a key per feature, same values", key_per_feature),
            ("one JSON text per entity, one time for all", json_per_entity),
            ("Feast's Redis store, one time per view", feasts_own),
            ("Shoal: sliding window, per event", windows),
        ):
            client.flushall()
            before = client.info("memory")["used_memory"]
            try:
                fill(client)
            except ImportError as error:
                rows.append((name, f"not measured: {error}", ""))
                continue
            size = (client.info("memory")["used_memory"] - before) / N
            base = base or size
            rows.append((name, f"{size:,.0f}", f"{size / base:.2f}"))
    table(
        f"Redis memory, {N:,} entities of {len(NAMES)} features",
        ("layout", "bytes each", "× Shoal"),
        rows,
    )


if __name__ == "__main__":
    main()
