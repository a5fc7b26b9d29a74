"""Hosts of a network of their own, on this machine: Linux namespaces.

Each has its own network, processes, shared memory and file systems: the repository at
/opt/shoal, and empty folders where a host keeps what is its own. They reach each other,
and the servers of this process at `GATEWAY`, over a bridge.
"""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
BRIDGE = "shoal-nodes"
GATEWAY = "10.213.77.1"
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
HOME = "/var/lib/shoal-user"
BOOT = f"""
set -e
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/etc /mnt/etc-work /mnt/shoal /mnt/shoal-work
for folder in /opt /tmp /dev/shm /var/lib; do mount -t tmpfs tmpfs $folder; done
mkdir -p /opt/shoal {HOME}
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/etc-work /etc
mount -t overlay overlay \
  -o lowerdir={ROOT},upperdir=/mnt/shoal,workdir=/mnt/shoal-work /opt/shoal
mkdir -p /opt/shoal/.venv /etc/shoal
mount --bind {sys.prefix} /opt/shoal/.venv
hostname "$0"
ip link set lo up
echo ready
while true; do sleep 3600 & wait; done
"""
"""The first process of a host; it also reaps those whose parents have ended."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "LANG": "C.UTF-8"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def refusal() -> str | None:
    """Why this machine has no namespaces for us, or None."""
    if ROOT.is_relative_to("/tmp") or ROOT.is_relative_to("/opt"):
        return f"a host's own folders would hide {ROOT}: have the repository elsewhere"
    try:
        probe = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"]
        subprocess.run(probe, check=True, capture_output=True, text=True)
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("link", "delete", BRIDGE)
    except FileNotFoundError as error:
        return f"{error.filename} is not installed (Debian: iproute2, util-linux)"
    except subprocess.CalledProcessError as error:
        return f"namespaces are not permitted: {error.stderr.strip()}"
    return None


class Network:
    """The bridge. `close` removes everything, whatever state the hosts are in."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    def add(self, name: str, address: str) -> "Host":
        """Start a host. One of the same address must have been killed."""
        host = Host(name, address)
        self.hosts.append(host)
        host.connect()
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
        ip("link", "delete", BRIDGE)


class Host:
    """One host. Its processes end with it."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self._link = f"sn-{name}"[:15]
        self._process = subprocess.Popen(
            [
                *("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"),
                *("--propagation", "private", "bash", "-c", BOOT, name),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", f"{name} did not start"
        pid = self._process.pid
        self._init = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def connect(self) -> None:
        """Connect it to the bridge."""
        ip("link", "add", self._link, "type", "veth", "peer", "eth0", "netns", str(self._init))
        ip("link", "set", self._link, "master", BRIDGE, "up")
        self.run(f"ip address add {self.address}/24 dev eth0 && ip link set eth0 up")
        self.run(f"ip route add default via {GATEWAY}")

    def run(self, command: str, timeout: float = 180, **environment: str) -> str:
        """Run a command by a shell; what it printed.

        What it starts in the background may go on, and its output is no longer read.

        Raises:
            RuntimeError: It failed; with the output.
        """
        words = ["nsenter", "--target", str(self._init), *NAMESPACES, "env"]
        words += ["-i", *(f"{k}={v}" for k, v in {**ENVIRONMENT, **environment}.items())]
        words += ["bash", "-c", f"cd; {command}"]
        with tempfile.TemporaryFile("w+") as output:
            try:
                status = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=timeout,
                ).returncode
            except subprocess.TimeoutExpired:
                status = -1
            output.seek(0)
            text = output.read()
        if status:
            raise RuntimeError(f"{self.name}: {command}: exit status {status}\n{text[-6000:]}")
        return text

    def write(self, path: str, text: str) -> None:
        """Write a file, for its owner alone."""
        self.run(f"umask 077; mkdir -p {Path(path).parent}; cat > {path} <<'EOF'\n{text}\nEOF")

    def path(self, path: str) -> Path:
        """A path of the host, as this process reaches it while the host runs."""
        return Path(f"/proc/{self._init}/root{path}")

    def kill(self) -> None:
        """A power cut: off the network at once, and no process says goodbye."""
        with suppress(subprocess.CalledProcessError):
            ip("link", "delete", self._link)
        with suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
