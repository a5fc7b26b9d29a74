"""Shoal on several hosts, deployed as `ray_cluster.yaml` says."""

import re
import secrets
from typing import Any

import trustme
import yaml

from shoal import Client, Role
from shoal.router.credentials import mint_internal
from shoal.tenants.records import PLATFORM

from ..moto_server import CREDENTIALS
from .hosts import ROOT, Host, Network
from .stores import Stores

TEXT = (ROOT / "ray_cluster.yaml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
VARIABLES = set(
    re.findall(r"(\w+)=", "\n".join(re.findall(r"^#   export (.*?)(?:   +#.*)?$", TEXT, re.M)))
)
"""What the first lines of the file set on every machine."""
(UP,) = re.findall(r"^#   ray exec ray_cluster.yaml '(.+)'$", TEXT, re.M)
TLS = "/etc/shoal/tls"
PYTHON_PATH = "/opt/shoal/platform:/opt/shoal/plugins"
"""Of the repository under test, wherever the environment was made."""


def without_ssh(command: str) -> str:
    """A command without the autoscaler, which would start the other hosts by SSH."""
    return re.sub(r"--autoscaling-config=\S+", "", command)


class Cluster:
    """The hosts by name, the first of which is the head."""

    def __init__(self, network: Network, stores: Stores, authority: trustme.CA) -> None:
        self.network, self.stores, self.authority = network, stores, authority
        self.hosts: dict[str, Host] = {}
        self.secret, self.token = secrets.token_urlsafe(48), secrets.token_hex(32)
        self.vectors, self.lake = stores.s3.lake(), stores.s3.lake()

    def environment(self) -> dict[str, str]:
        """The file /etc/shoal/shoal.env of every host."""
        stores = self.stores
        environment = {
            "SHOAL_ADDRESS": "auto",
            "SHOAL_HOST": "0.0.0.0",
            "SHOAL_DATA": "/var/lib/shoal",
            "SHOAL_WORKERS": "2",
            "SHOAL_STORES__ONLINE": stores.online.uri,
            "SHOAL_STORES__EVENTS": stores.events.uri,
            "SHOAL_STORES__VECTORS": self.vectors,
            "SHOAL_STORES__LAKE": self.lake,
            "SHOAL_ROUTER__INTERNAL_SECRET": self.secret,
            **{k: v for k, v in CREDENTIALS.items() if k in VARIABLES},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": f"{TLS}/node.crt",
            "RAY_TLS_SERVER_KEY": f"{TLS}/node.key",
            "RAY_TLS_CA_CERT": f"{TLS}/ca.crt",
            "RAY_REDIS_ADDRESS": stores.ray.address,
            "RAY_REDIS_PASSWORD": stores.ray.password,
            "RAY_external_storage_namespace": "shoal",
            "RAY_REDIS_CA_CERT": f"{TLS}/ca.crt",
            "SSL_CERT_FILE": f"{TLS}/ca.crt",
        }
        assert environment.keys() == VARIABLES, "the first lines of ray_cluster.yaml"
        return environment | {
            "AWS_EC2_METADATA_DISABLED": "true",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": PYTHON_PATH,
        }

    def start(self, name: str, address: str) -> Host:
        """Start a host, with what every machine has, and Ray on it."""
        host = self.network.add(name, address)
        own = self.authority.issue_cert(address, "127.0.0.1", "localhost", name)
        host.write(f"{TLS}/node.crt", own.cert_chain_pems[0].bytes().decode())
        host.write(f"{TLS}/node.key", own.private_key_pem.bytes().decode())
        host.write(f"{TLS}/ca.crt", self.authority.cert_pem.bytes().decode())
        lines = [f"export {name}='{value}'" for name, value in self.environment().items()]
        host.write("/etc/shoal/shoal.env", "\n".join(lines))
        for command in FILE["setup_commands"]:
            if "make install" not in command:
                host.run(command, PYTHONPATH=PYTHON_PATH)
        is_head = not self.hosts or self.head.address == address
        for command in FILE["head_start_ray_commands" if is_head else "worker_start_ray_commands"]:
            host.run(without_ssh(command), RAY_HEAD_IP=address if is_head else self.head.address)
        self.hosts[name] = host
        return host

    @property
    def head(self) -> Host:
        return next(iter(self.hosts.values()))

    def up(self, settings: str) -> str:
        """`shoal up` on the head, the only host with this `shoal.toml`."""
        self.head.write("/opt/shoal/shoal.toml", settings)
        return self.head.run(UP, timeout=300)

    def python(self, host: Host, code: str) -> str:
        """What a program prints that runs on a host, with the host's settings."""
        host.write("/tmp/program.py", code)
        exports = re.search(r"export RAY_SERVE.*?;", FILE["worker_start_ray_commands"][-1])
        assert exports
        start = f"cd /opt/shoal && . /etc/shoal/shoal.env; {exports[0]}"
        return host.run(f"{start} .venv/bin/python /tmp/program.py 2>/tmp/program.err")

    def operator(self, host: Host, tenant: str = PLATFORM, **options: Any) -> Client:
        return Client(f"http://{host.address}:8000", self.credential(tenant), **options)

    def credential(self, tenant: str) -> str:
        return mint_internal(self.secret, tenant=tenant, role=Role.admin, user=None, ttl=3600)
