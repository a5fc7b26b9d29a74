"""Starts HAProxy with a configuration that is closed to the outside.

Ray Serve's template for HAProxy binds the statistics pages to all interfaces, opens the
admin socket to every user of the machine, sends a line about each request to the port
of syslog, lists the applications to everybody, waits an hour for a silent client, and
answers errors as plain text. `harden` rewrites that, and `find_openings` looks for what
is left, so that a new template of Ray's cannot open anything unnoticed.

Run as a script, with nothing but the standard library, by what
`shoal.runtime.haproxy.write_launcher` writes.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

WILDCARDS = {"", "*", "0.0.0.0", "::", "[::]"}
SYSLOG = "127.0.0.1:514"
HEAD_SECONDS = 10
"""Until a connection has sent a whole request line and all headers."""
STALL_SECONDS = 60
"""Without a byte from a client that is sending, or to one that is receiving."""
TUNNEL_SECONDS = 3600
"""Without a byte in either direction of a WebSocket."""
ID = "%[var(txn.request_id)]"
PROBLEMS = {
    400: ("Malformed request", "the request is malformed, or its body ended too early"),
    408: ("Request timeout", "the client did not send the whole request in time"),
    413: ("Content too large", "the body is too large"),
    500: ("Internal error", "the request could not be passed to a replica"),
    502: ("Unavailable", "the replica ended the connection before it had responded"),
    503: ("Unavailable", "no replica is ready to answer; try again in a moment"),
    504: ("Unavailable", "the replica did not respond in time"),
}
"""Title and detail of the errors that HAProxy makes, by status."""


def problem(status: int, title: str, detail: str) -> str:
    """The arguments of a rule of HAProxy's that respond with a problem (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    text = json.dumps({**body, "request_id": "ID"}).replace("%", "%%").replace('"', r"\"")
    headers = f'hdr X-Request-ID "{ID}"'
    if status == 503:
        headers += " hdr Retry-After 1"
    return (
        f"status {status} content-type application/problem+json "
        f'lf-string "{text.replace("ID", ID)}" {headers}'
    )


ERRORS = "".join(f"    http-error {problem(s, *text)}\n" for s, text in PROBLEMS.items())
DEFAULTS = f"""\
    timeout client {STALL_SECONDS}s
    timeout http-request {HEAD_SECONDS}s
    timeout tunnel {TUNNEL_SECONDS}s
{ERRORS}"""
"""The end of the section `defaults`."""
REQUEST_ID = """\
    http-request set-var(txn.request_id) req.hdr(x-request-id) \
if { req.hdr_cnt(x-request-id) eq 1 } { req.hdr(x-request-id) -m reg ^[A-Za-z0-9._:-]{1,128}$ }
    http-request set-var-fmt(txn.request_id) %[uuid] if !{ var(txn.request_id) -m found }
    http-request set-header X-Request-ID %[var(txn.request_id)]
"""
"""One id for the replica, its response, and the errors that HAProxy makes."""
PARSED_TARGET = 65_535
"""Bytes of path and query that a replica can parse; far above the Router's limit."""
TOO_LONG = problem(414, "Path and query too long", "path and query are too long")
UNKNOWN_PATH = problem(404, "Not found", "there is nothing at this path")
FRONTEND = f"""\
{REQUEST_ID}    http-request return {TOO_LONG} \
if {{ url,length gt {PARSED_TARGET} }}
    http-request return {UNKNOWN_PATH} \
if {{ path_beg -i /-/ }} !{{ path -i /-/healthz }}
"""
"""The beginning of the section `frontend http_frontend`."""
PLAIN_ERROR = re.compile(
    r"^(\s*http-request return )status (4\d\d|5\d\d) content-type text/plain "
    r'(?:lf-)?string "(?:[^"\\]|\\.)*"(.*)$',
    re.MULTILINE,
)


def limit_connections(per_address: int, exempt: Sequence[str]) -> str:
    """The rules that refuse a client's connection beyond so many at the same time."""
    unless = f" if !{{ src {' '.join(exempt)} }}" if exempt else ""
    return (
        "    stick-table type ipv6 size 100k expire 1m store conn_cur\n"
        f"    tcp-request connection track-sc0 src{unless}\n"
        f"    tcp-request connection reject if {{ sc0_conn_cur gt {per_address} }}\n"
    )


def max_connections(wanted: int) -> int:
    """As many connections as there can be open files: HAProxy wants 2.5 for each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if most == resource.RLIM_INFINITY else min(wanted, max(64, most * 2 // 5 - 256))


def harden(config: str, host: str, limits: Mapping[str, Any]) -> str:
    """Rewrite a configuration of HAProxy that Ray Serve made.

    Args:
        config: The text of the configuration.
        host: The interface that replaces all interfaces.
        limits: `connections` in all, `per_address` from one address, and the addresses
            that are `exempt` from that.

    Returns:
        The text with statistics bound to `host`, an admin socket for its owner only,
        without a syslog target and a list of the applications, with limits and timeouts
        for clients, and with problems for errors.
    """

    def replace(pattern: str, by: str) -> None:
        nonlocal config
        config = re.sub(pattern, by.replace("\\", r"\\"), config, flags=re.MULTILINE)

    config = re.sub(r"^(\s*bind )\*?:(?=\d)", rf"\g<1>{host}:", config, flags=re.MULTILINE)
    config = re.sub(r"^(\s*stats socket .*\bmode )666\b", r"\g<1>600", config, flags=re.MULTILINE)
    config = PLAIN_ERROR.sub(_as_problem, config)
    replace(rf"^\s*log {re.escape(SYSLOG)} .*\n", "")
    replace(r"^\s*errorfile .*\n", "")
    replace(r"^\s*http-request return .* if routes$\n", "")
    replace(r"^\s*timeout client .*\n", "")
    replace(r"^\s*maxconn \d+$", f"    maxconn {max_connections(limits['connections'])}")
    replace(r"^(?=frontend prometheus$)", DEFAULTS)
    rules = limit_connections(limits["per_address"], limits["exempt"]) + FRONTEND
    return re.sub(
        r"^(frontend http_frontend\n\s*bind .*\n)",
        lambda found: found[1] + rules,
        config,
        flags=re.MULTILINE,
    )


def _as_problem(found: "re.Match[str]") -> str:
    status = int(found[2])
    title, detail = PROBLEMS.get(status, ("Not found", "there is nothing at this path"))
    return found[1] + problem(status, title, detail) + found[3]


def find_openings(config: str, host: str, log_target: str | None = None) -> Iterator[str]:
    """Each line of a configuration that opens HAProxy beyond what is wanted.

    Args:
        config: The text of the configuration.
        host: The interface to listen on; on a wildcard, all interfaces are wanted.
        log_target: A syslog target that the operator has chosen.
    """
    for line in map(str.strip, config.splitlines()):
        words = line.split()
        if words[:1] == ["bind"]:
            interface = words[1].rpartition(":")[0] if len(words) > 1 else ""
            if interface in WILDCARDS and host not in WILDCARDS:
                yield f"listens on all interfaces: {line}"
        elif words[:2] == ["stats", "socket"]:
            if not re.search(r"\bmode 600\b", line):
                yield f"opens the admin socket to other users: {line}"
        elif words[:1] == ["log"]:
            # `log global` refers to another line; a path is a socket of Ray's own.
            target = words[1] if len(words) > 1 else ""
            if target not in ("global", log_target) and not target.startswith("/"):
                yield f"sends a line about each request to syslog: {line}"
        elif words[:2] == ["http-request", "return"] and line.endswith(" if routes"):
            yield f"lists the applications to everybody: {line}"


def find_missing(config: str) -> Iterator[str]:
    """Each protection from slow clients that a configuration does not have."""
    for protection in (DEFAULTS, FRONTEND, "tcp-request connection reject"):
        if protection not in config:
            yield f"has no place for: {protection.strip().splitlines()[0]}"


def limits_by_environment() -> dict[str, Any]:
    """The limits that the environment or the deployment sets, as for `Config`."""
    names = ("connections", "per_address", "exempt")
    given = {name: os.environ.get(f"SHOAL_INGRESS__{name.upper()}") for name in names}
    deployed = json.loads(os.environ.get("SHOAL_SETTINGS", "{}")).get("ingress", {})
    own = {name: json.loads(value) for name, value in given.items() if value is not None}
    return {**deployed, **own}


def main(host: str, limits: str, binary: str, *arguments: str) -> None:
    """Harden the file after `-f` and become HAProxy, or exit with what is open."""
    if "-f" not in arguments:
        sys.exit("Shoal does not start HAProxy: Ray Serve gave it no configuration (-f FILE)")
    path = Path(arguments[arguments.index("-f") + 1])
    config = harden(path.read_text(), host, {**json.loads(limits), **limits_by_environment()})
    log_target = os.environ.get("RAY_SERVE_HAPROXY_LOG_TARGET")
    openings = [*find_openings(config, host, log_target), *find_missing(config)]
    if openings:
        sys.exit(
            "Shoal does not start HAProxy, because the configuration that Ray Serve made "
            f"{'; '.join(openings)}. Set proxy = 'ray', or install the version of Ray that "
            "Shoal requires."
        )
    path.write_text(config)
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
