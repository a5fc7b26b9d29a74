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
from shoal.local.embedded_servers import EmbeddedServers
from shoal.local.redis_process import RedisProcess

NAMES = ["redis", "events"]

pytestmark = pytest.mark.integration


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    made = EmbeddedServers(tmp_path / "data dir")
    yield made
    made.stop()


class RedisAlone(RedisProcess):
    name = "elsewhere"


class OneServer(EmbeddedServers):
    kinds = (RedisAlone,)


def pids(servers: EmbeddedServers) -> dict[str, int]:
    known = json.loads((servers.folder / "endpoints.json").read_text())
    return {name: known[name]["pid"] for name in NAMES}


def has_ended(pid: int, seconds: float = 20) -> bool:
    try:
        psutil.Process(pid).wait(seconds)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        return False
    return True


def client(uri: str) -> Redis:
    return Redis.from_url(uri)


def wait_until_ready(servers: EmbeddedServers, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while any(servers.check().values()) and time.monotonic() < end:
        time.sleep(0.05)
    assert servers.check() == dict.fromkeys(NAMES)


def test_servers_start_restart_and_stop(servers: EmbeddedServers) -> None:
    lines: list[str] = []
    config = servers.start(lines.append)
    assert servers.check() == dict.fromkeys(NAMES)
    assert [line for line in lines if "ready" in line]

    # only the owner can read the files
    for path in [servers.folder, *(servers.folder / name for name in NAMES)]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    private = ["endpoints.json", "lock", "redis/redis.conf", "events/redis.conf"]
    for path in private:
        assert stat.S_IMODE((servers.folder / path).stat().st_mode) == 0o600
    secrets = [
        e["password"] for e in json.loads((servers.folder / "endpoints.json").read_text()).values()
    ]
    for pid in pids(servers).values():
        assert not any(secret in " ".join(psutil.Process(pid).cmdline()) for secret in secrets)
    assert not any(secret in repr(config) for secret in secrets)

    # they listen on loopback only
    for pid in pids(servers).values():
        listening = [
            c.laddr.ip
            for c in psutil.Process(pid).net_connections("tcp")
            if c.status == psutil.CONN_LISTEN
        ]
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}

    # the event log is synced with each write, the online store is not
    assert client(config.events).config_get("appendfsync") == {"appendfsync": "always"}
    assert client(config.online).config_get("append*")["appendonly"] == "yes"
    client(config.online).set("a", "1")
    client(config.events).xadd("s", {"a": "1"})

    # another run is refused
    with pytest.raises(Conflict, match=str(os.getpid())):
        EmbeddedServers(servers.folder).start()
    with pytest.raises(Conflict):
        EmbeddedServers(servers.folder).stop()
    assert EmbeddedServers(servers.folder).check() == dict.fromkeys(NAMES)
    assert EmbeddedServers(servers.folder).config() == config

    # a server that ends is restarted on the same port
    before = pids(servers)
    for name in NAMES:
        os.kill(before[name], signal.SIGKILL)
        assert has_ended(before[name])
    assert all(servers.check().values())
    assert len(servers.supervise_once()) == 2
    assert servers.supervise_once() == []
    wait_until_ready(servers)
    assert servers.config() == config
    assert set(pids(servers).values()).isdisjoint(before.values())
    assert client(config.events).xlen("s") == 1

    # a server that ends again at once waits
    os.kill(pids(servers)["redis"], signal.SIGKILL)
    assert has_ended(pids(servers)["redis"])
    if not servers.supervise_once():
        servers._servers[0].next_try = 0.0
        assert servers.supervise_once()
    wait_until_ready(servers)

    # nothing runs after a stop; a new start finds the data and the ports
    last = pids(servers)
    servers.stop()
    assert all(has_ended(pid) for pid in last.values())
    assert servers.start() == config
    assert client(config.online).get("a") == b"1"
    servers.stop()
    servers.stop()


RUN = """
import sys, time
from shoal.local.embedded_servers import EmbeddedServers
EmbeddedServers(sys.argv[1]).start()
print("ready", flush=True)
time.sleep(60)
"""


def test_servers_left_by_a_killed_run_are_replaced(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    written = tmp_path / "endpoints.json"
    known, config = json.loads(written.read_text()), EmbeddedServers(tmp_path).config()
    client(config.events).set("a", "1")
    child.kill()
    child.wait()
    child.stdout.close()
    left = [known[name]["pid"] for name in ("redis", "events")]
    assert all(psutil.pid_exists(pid) for pid in left)
    known["redis"]["pid"] = 0  # as if it had been killed before it wrote that down
    known["events"] |= {"pid": os.getpid(), "started": 1}  # another process's id by now
    written.write_text(json.dumps(known))
    servers, lines = EmbeddedServers(tmp_path), list[str]()
    assert servers.start(lines.append) == config
    assert all(has_ended(pid) for pid in left)
    assert len([line for line in lines if "earlier run" in line]) == 2
    assert client(config.events).get("a") == b"1"
    servers.stop()


def test_only_a_start_replaces_a_port_in_use(tmp_path: Path) -> None:
    servers = OneServer(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (tmp_path / "endpoints.json").write_text(
            json.dumps({"elsewhere": {"port": port, "password": "x"}})
        )
        config = servers.start()
        assert f":{port}/" not in config.online
        assert servers.check() == {"elsewhere": None}
        (server,) = servers._servers
        os.kill(server.endpoint.pid, signal.SIGKILL)
        assert has_ended(server.endpoint.pid)
        server.endpoint.port = port
        assert "in use" in servers.supervise_once()[0]
    servers.stop()


def test_a_failed_start_is_reported_with_the_servers_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisProcess, "appendfsync", "nonsense")
    with pytest.raises(Unavailable, match=r"elsewhere ended.*(?s:.)*appendfsync"):
        OneServer(tmp_path).start()
    assert json.loads((tmp_path / "endpoints.json").read_text())["elsewhere"]["pid"] == 0


def test_servers_never_started_have_no_config_and_can_be_stopped(servers: EmbeddedServers) -> None:
    servers.stop()
    with pytest.raises(Unavailable):
        servers.config()


def test_an_older_redis_refuses_the_data_of_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = OneServer(tmp_path / "data")
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
