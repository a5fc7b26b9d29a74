"""Nothing in the platform or its plugins opens a connection beside the guard."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]

CONNECTS = {
    "aiohttp",
    "aiosmtplib",
    "anyio.connect_tcp",
    "anyio.getaddrinfo",
    "asyncio.open_connection",
    "boto3",
    "botocore",
    "confluent_kafka",
    "duckdb.connect",
    "ftplib",
    "grpc.aio",
    "grpc.insecure_channel",
    "grpc.secure_channel",
    "http.client",
    "httpcore",
    "httpx.AsyncClient",
    "httpx.AsyncHTTPTransport",
    "httpx.Client",
    "httpx.HTTPTransport",
    "httpx.delete",
    "httpx.get",
    "httpx.head",
    "httpx.patch",
    "httpx.post",
    "httpx.put",
    "httpx.request",
    "httpx.stream",
    "imaplib",
    "kafka",
    "paramiko",
    "pycurl",
    "pymilvus.AsyncMilvusClient",
    "pymilvus.MilvusClient",
    "redis.asyncio",
    "redis.Redis",
    "requests",
    "sentence_transformers.SentenceTransformer",
    "smtplib",
    "socket.create_connection",
    "socket.getaddrinfo",
    "socket.socket",
    "urllib.request",
    "urllib3",
    "websockets",
    "xmlrpc",
}
"""What opens connections, in the standard library and those that Shoal depends on."""

CLIENT = "a client of Shoal, in the caller's own process"
LOCAL = "a server that `shoal up` started on this machine"
EXCEPTIONS = {
    "platform/shoal/client/http.py": CLIENT,
    "platform/shoal/egress/": "the guard itself",
    "platform/shoal/eventlog/kafka_": "the brokers, which the operator has configured",
    "platform/shoal/local/redis_process.py": LOCAL,
    "platform/shoal/local/server_process.py": LOCAL,
    "platform/shoal/runtime/ray_head.py": "looks whether a port of this machine is free",
    "platform/shoal/stores/": "the stores' URIs, which the operator has configured",
    "platform/shoal/testing/": "tests of a plugin, on the author's machine",
    "plugins/shoal_anomalies/mail.py": "the mail server, which the operator has configured",
    "plugins/shoal_features/aggregation.py": "reads what is registered; fetches no extension",
    "plugins/shoal_features/feast_http.py": CLIENT,
    "plugins/shoal_search/sentence_encoder.py": "a model that the operator has named",
}
"""A file or folder that connects by itself, and why: see docs/security.md."""


def imported(tree: ast.AST) -> dict[str, str]:
    """What the names of a module stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def connecting(file: Path) -> Iterator[tuple[str, int]]:
    """What a file uses of `CONNECTS`, with the line."""
    tree = ast.parse(file.read_text())
    names = imported(tree)
    found = [(meaning, 0) for meaning in names.values()]
    types = {
        id(part)
        for node in ast.walk(tree)
        for field in ("annotation", "returns")
        if (annotation := getattr(node, field, None)) is not None
        for part in ast.walk(annotation)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in types:
            first, dot, rest = ast.unparse(node).partition(".")
            if first in names:
                found.append((names[first] + dot + rest, node.lineno))
    for name, line in found:
        for known in CONNECTS:
            if name == known or name.startswith(f"{known}."):
                yield name, line


def test_no_module_connects_beside_the_guard() -> None:
    offences: dict[str, set[str]] = {}
    for folder in ("platform", "plugins"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for name, line in connecting(file):
                offences.setdefault(str(file.relative_to(ROOT)), set()).add(f"{name} (line {line})")
    unnamed = {f: o for f, o in offences.items() if not f.startswith(tuple(EXCEPTIONS))}
    assert not unnamed, "use ctx.services.egress:\n" + "\n".join(
        f"{file}: {', '.join(sorted(found))}" for file, found in unnamed.items()
    )
    unneeded = [e for e in EXCEPTIONS if not any(file.startswith(e) for file in offences)]
    assert not unneeded
