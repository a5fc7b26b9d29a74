"""How long the largest and the most hostile bodies keep the event loop from other
requests: for every operation that takes a body, the one that blocks it for longest.

    python benchmarks/loop_blocks.py [--tries 5] [--all]

A block counts what passed both on the clock and of the process's CPU time, so that a
loaded machine changes it less; of several tries, the median. The platform promises at
most 50 ms. With `--all`, every body instead of each operation's worst. Five minutes.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from common import machine, table

from shoal.contract.operations import Operation, operations
from shoal.local.embedded_servers import EmbeddedServers
from shoal.runtime.replica import freeze_objects
from shoal.testing.app import CapabilityApp

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from large_bodies import (
    CAPABILITIES,
    LoopWatch,
    allowed_bodies,
    hostile_bodies,
    post,
)

PROMISED_MS = 50
SECONDS = 3
"""A request that takes longer ends with 503; what counts here is whom it delays."""
Row = tuple[float, str, str, int]


def block(app: CapabilityApp, operation: Operation, body: bytes, kind: str, tries: int) -> float:
    """The median of how long a body blocks the loop, in ms."""
    blocks = []
    for _ in range(tries):
        with LoopWatch(app, time.perf_counter, time.process_time) as watch:
            post(app, operation, body, kind)
        blocks.append(1e3 * watch.longest)
    return statistics.median(blocks)


def measure(app: CapabilityApp, name: str, tries: int) -> list[list[Row]]:
    """For each operation its rows: ms, operation, which body, and its bytes."""
    document, found = app.document(name), []
    for operation in operations(document).values():
        if not operation.has_body:
            continue
        rows = []
        bodies = list(allowed_bodies(document, operation))
        bodies += [(label, kind, make()) for label, kind, make in hostile_bodies(operation)]
        for label, kind, body in bodies:
            took = block(app, operation, body, kind, tries)
            rows.append((took, f"{name}.{operation.id}", label, len(body)))
        found.append(sorted(rows, reverse=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        servers = EmbeddedServers(Path(folder))
        router = {"limits": {"seconds": SECONDS}}
        app = CapabilityApp(servers.start(), CAPABILITIES, router=router)
        freeze_objects()
        try:
            found = [
                rows
                for name in ("platform", *CAPABILITIES)
                for rows in measure(app, name, options.tries)
            ]
        finally:
            app.close()
            servers.stop()
    rows = sorted((r for rows in found for r in (rows if options.all else rows[:1])), reverse=True)
    table(
        f"The longest block of the loop ({machine()})",
        ("operation", "body", "bytes", "ms"),
        [(name, label, f"{size:,}", f"{ms:.1f}") for ms, name, label, size in rows],
    )
    over = [name for ms, name, _, _ in rows if ms > PROMISED_MS]
    print(f"\nover {PROMISED_MS} ms: {', '.join(over) or 'none'}")


if __name__ == "__main__":
    main()
