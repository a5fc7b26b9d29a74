"""Starts HAProxy with a configuration that is closed to the outside.

Ray Serve's template for HAProxy binds the statistics pages to all interfaces, opens the
admin socket to every user of the machine, and sends a line about each request to the
port of syslog. `harden` rewrites that, and `find_openings` looks for what is left, so
that a new template of Ray's cannot open anything unnoticed.

Run as a script, with nothing but the standard library, by what
`shoal.runtime.haproxy.write_launcher` writes.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

WILDCARDS = {"", "*", "0.0.0.0", "::", "[::]"}
SYSLOG = "127.0.0.1:514"


def harden(config: str, host: str) -> str:
    """Rewrite a configuration of HAProxy that Ray Serve made.

    Args:
        config: The text of the configuration.
        host: The interface that replaces all interfaces.

    Returns:
        The text with statistics bound to `host`, an admin socket for its owner only,
        and without a syslog target.
    """
    config = re.sub(r"^(\s*bind )\*?:(?=\d)", rf"\g<1>{host}:", config, flags=re.MULTILINE)
    config = re.sub(r"^(\s*stats socket .*\bmode )666\b", r"\g<1>600", config, flags=re.MULTILINE)
    return re.sub(rf"^\s*log {re.escape(SYSLOG)} .*\n", "", config, flags=re.MULTILINE)


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


def main(host: str, binary: str, *arguments: str) -> None:
    """Harden the file after `-f` and become HAProxy, or exit with what is open."""
    if "-f" not in arguments:
        sys.exit("Shoal does not start HAProxy: Ray Serve gave it no configuration (-f FILE)")
    path = Path(arguments[arguments.index("-f") + 1])
    config = harden(path.read_text(), host)
    openings = list(find_openings(config, host, os.environ.get("RAY_SERVE_HAPROXY_LOG_TARGET")))
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
