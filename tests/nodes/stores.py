"""The servers that the hosts reach over their network: Redis with TLS, and S3."""

import secrets
import socket
import subprocess
import time
from pathlib import Path

import trustme

from shoal.local.redis_process import redis_binary

from ..moto_server import MotoServer
from .hosts import GATEWAY


class TLSRedis:
    """A redis-server on the bridge, with a password and with TLS alone."""

    def __init__(self, folder: Path, authority: trustme.CA, *options: str) -> None:
        folder.mkdir(mode=0o700)
        own = authority.issue_cert(GATEWAY)
        own.private_key_pem.write_to_path(folder / "key.pem")
        own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        with socket.socket() as free:
            free.bind((GATEWAY, 0))
            self.port = int(free.getsockname()[1])
        self.password = secrets.token_urlsafe(24)
        configuration = folder / "redis.conf"
        configuration.write_text(f"requirepass {self.password}\n")
        configuration.chmod(0o600)
        tls = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        tls += ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]
        tls += ["--tls-ca-cert-file", "ca.pem", "--bind", GATEWAY]
        self._command = [redis_binary(), str(configuration), *tls, *options]
        self._folder = folder
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((GATEWAY, self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.05)

    @property
    def address(self) -> str:
        return f"rediss://{GATEWAY}:{self.port}"

    @property
    def uri(self) -> str:
        return f"rediss://:{self.password}@{GATEWAY}:{self.port}/0"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Stores:
    """All stores of a cluster: three Redis servers, and two buckets."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.s3 = MotoServer.start(GATEWAY)
        self.online = TLSRedis(folder / "online", authority)
        self.events = TLSRedis(
            folder / "events", authority, "--appendonly", "yes", "--appendfsync", "always"
        )
        self.ray = TLSRedis(folder / "ray", authority)

    def stop(self) -> None:
        for server in (self.online, self.events, self.ray, self.s3):
            server.stop()
