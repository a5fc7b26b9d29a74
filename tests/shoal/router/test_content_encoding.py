"""Compressed bodies: taken within the limit, in bounded steps, or refused."""

import asyncio
import gzip
import random
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from shoal import Malformed
from shoal.router.content_encoding import MAX_FRAMES, STEP_BYTES, InflatedBody
from shoal.tenants.records import Limits

from ..conftest import World, problem

pytestmark = pytest.mark.anyio

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
ENCODINGS = sorted(COMPRESS)
RANDOM = random.Random(7).randbytes(300_000)


async def inflate(encoding: str, chunks: list[bytes]) -> list[bytes]:
    """The pieces of a body that arrives in chunks."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1}
        for i, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return messages.pop(0)

    body, pieces, more = InflatedBody(receive, encoding.encode()), [], True
    while more:
        message = await body.receive()
        pieces.append(message["body"])
        more = message["more_body"]
    return pieces


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(
    encoding=st.sampled_from(ENCODINGS),
    frames=st.lists(
        st.binary(max_size=200)
        | st.sampled_from([RANDOM, b"a" * 1_000_000, b"x" * STEP_BYTES, b"y" * (2 * STEP_BYTES)]),
        min_size=1,
        max_size=3,
    ),
    cuts=st.lists(st.integers(0, 10**6), max_size=5),
)
def test_any_body_is_inflated_however_it_arrives(
    encoding: str, frames: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(map(COMPRESS[encoding], frames))
    pieces = asyncio.run(inflate(encoding, split(data, cuts)))
    assert b"".join(pieces) == b"".join(frames)
    assert max(map(len, pieces)) <= STEP_BYTES


@given(encoding=st.sampled_from(ENCODINGS), junk=st.binary(max_size=100), at=st.integers(0, 200))
def test_corrupt_bodies_are_malformed(encoding: str, junk: bytes, at: int) -> None:
    data = COMPRESS[encoding](b"hello, hello, hello")
    for corrupt in (junk, data[: at % len(data)], data + b"\x01junk" + junk):
        with pytest.raises(Malformed):
            asyncio.run(inflate(encoding, [corrupt]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_number_of_frames_is_bounded(encoding: str) -> None:
    empty = COMPRESS[encoding](b"")
    assert asyncio.run(inflate(encoding, [empty * MAX_FRAMES])) == [b""]
    with pytest.raises(Malformed, match="frames"):
        asyncio.run(inflate(encoding, [empty * (MAX_FRAMES + 1)]))


def bomb(encoding: str) -> bytes:
    """About a megabyte, and a gigabyte when it is inflated."""
    if encoding == "zstd":
        return zstd.compress(b"\0" * 2**20) * 900
    compressor = zlib.compressobj(9, wbits=31)
    return b"".join(compressor.compress(b"\0" * 2**24) for _ in range(64)) + compressor.flush()


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_bomb_is_stopped_at_the_limit(
    new_world: Callable[..., Any], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world: World = await new_world(limits=Limits(body_bytes=4 * 2**20))
    inflated: list[int] = []
    receive = InflatedBody.receive

    async def counted(self: InflatedBody) -> Any:
        message = await receive(self)
        inflated.append(len(message.get("body", b"")))
        return message

    monkeypatch.setattr(InflatedBody, "receive", counted)
    response = await world.call(
        "POST", "/raw", content=bomb(encoding), headers={"content-encoding": encoding}
    )
    assert "limit of 4194304 bytes" in problem(response, 413)["detail"]
    assert sum(inflated) <= 4 * 2**20 + STEP_BYTES


@pytest.mark.parametrize("encoding", [*ENCODINGS, "x-gzip", "GZIP"])
async def test_a_compressed_body_is_as_good_as_a_plain_one(world: World, encoding: str) -> None:
    compress = COMPRESS.get(encoding, gzip.compress)
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    body = compress(b'{"text": "hello"}')
    answer = await world.call("PUT", "/items/1", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (await world.get("/items/1")).json()["text"] == "hello"
    raw = await world.call("POST", "/raw", content=compress(RANDOM), headers=headers)
    assert raw.json() == {"length": len(RANDOM)}


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "", "zst\xe9d"])
async def test_other_encodings_are_415_with_those_taken(world: World, encoding: str) -> None:
    headers = {"content-encoding": encoding.encode("latin-1")}
    answer = await world.call("POST", "/raw", content=b"x", headers=headers)
    refused = problem(answer, 415)
    assert "gzip, snappy, zstd" in refused["detail"]
    assert refused["errors"][0]["location"] == "header.content-encoding"
    assert answer.headers["accept-encoding"] == "gzip, snappy, zstd"
    plain = {"content-encoding": "identity"}
    assert (await world.call("POST", "/raw", content=b"x", headers=plain)).status_code == 200


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_body_in_no_encoding_is_400(world: World, encoding: str) -> None:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    for path, method in (("/raw", "POST"), ("/items/1", "PUT")):
        answer = await world.call(method, path, content=b"{}", headers=headers)
        assert encoding in problem(answer, 400)["detail"]


async def test_snappys_block_format_is_inflated_within_the_limit(
    new_world: Callable[..., Any],
) -> None:
    world: World = await new_world(limits=Limits(body_bytes=2**20))
    headers = {"content-encoding": "Snappy"}

    async def send(body: bytes) -> Any:
        return await world.call("POST", "/raw", content=body, headers=headers)

    for body in (b"", RANDOM, bytes(2**20)):
        raw = await send(bytes(cramjam.snappy.compress_raw(body)))
        assert raw.json() == {"length": len(body)}
    over = bytes(cramjam.snappy.compress_raw(bytes(2**20 + 1)))
    assert "limit of 1048576 bytes" in problem(await send(over), 413)["detail"]
    assert problem(await send(b"\x05abc"), 400)
