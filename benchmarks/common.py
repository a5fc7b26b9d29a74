"""Shared by the benchmarks: the machine's name, tables, an HTTP client, a Redis."""

import asyncio
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def machine() -> str:
    """What a measurement was taken on."""
    model = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration), open("/proc/cpuinfo") as info:
        model = next(
            line.split(":", 1)[1].strip() for line in info if line.startswith("model name")
        )
    load, python = os.getloadavg()[0], platform.python_version()
    return f"{os.cpu_count()} × {model}, load {load:.1f}, Python {python}"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = [[str(c) for c in head], *([str(c) for c in r] for r in rows)]
    widths = [max(len(r[i]) for r in text) for i in range(len(head))]
    print(f"\n{title}\n" + "-" * len(title))
    for n, row in enumerate(text):
        print(
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        )
        if n == 0:
            print("  ".join("-" * w for w in widths))
    sys.stdout.flush()


def spread(seconds: Sequence[float]) -> list[str]:
    """p50, p95 and p99 in ms."""
    ordered = sorted(seconds)
    return [
        f"{1e3 * ordered[min(int(len(ordered) * q), len(ordered) - 1)]:.2f}"
        for q in (0.5, 0.95, 0.99)
    ]


def median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[min(int(len(seconds) * 0.99), len(seconds) - 1)]


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Connection:
    """One kept-alive HTTP/1.1 connection that does nothing but send prepared bytes and
    find where the answer ends: what is measured is the server, and every server with
    the same client.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def __aenter__(self) -> "Connection":
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def request(self, method: str, path: str, key: str = "", body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n"
        if key:
            head += f"Authorization: Bearer {key}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    async def send(self, raw: bytes) -> tuple[int, bytes]:
        self.writer.write(raw)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        status = int(head[9:12])
        if b"content-length:" in lower:
            at = lower.index(b"content-length:") + 15
            return status, await self.reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
        body = b""
        while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return status, body


async def at_rate(
    call: Callable[[int], Awaitable[Any]], rate: float, seconds: float
) -> tuple[list[float], list[float]]:
    """Call one after the other, `rate` times a second: the durations of the calls, and
    from when each was due. A call that is due while the one before still runs waits,
    and the second list shows it. Between two calls the client sleeps, for a client that
    spins has one of a small machine's two processors to itself and the server has what
    is left.
    """
    took, since_due = [], []
    start = time.perf_counter() + 0.05
    for n in range(int(rate * seconds)):
        due = start + n / rate
        time.sleep(
            max(due - time.perf_counter() - 0.0001, 0)
        )  # asyncio's own sleep is a millisecond late
        while time.perf_counter() < due:
            pass
        sent = time.perf_counter()
        await call(n)
        done = time.perf_counter()
        took.append(done - sent)
        since_due.append(done - due)
    return took, since_due


@contextmanager
def private_redis() -> Iterator[int]:
    """A redis-server of our own; its port."""
    port, folder = free_port(), tempfile.mkdtemp(prefix="shoal-bench-")
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        folder,
        "--loglevel",
        "warning",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def busy(rows: list[tuple[str, ...]], most: int = 10) -> Iterator[None]:
    """Who uses the machine's processors meanwhile: command, CPU seconds, share of all
    processors, and how often a second it was made to give its processor up to another
    (what a tail is made of on a small machine).
    """
    import psutil

    def look() -> dict[int, tuple[str, float, int]]:
        found = {}
        for process in psutil.process_iter():
            try:
                with process.oneshot():
                    words, times = process.cmdline() or [process.name()], process.cpu_times()
                    name = " ".join(
                        [
                            Path(words[0]).name if words[0][:1] == "/" else words[0],
                            *map(_short, words[1:4]),
                        ]
                    )
                    found[process.pid] = (
                        name[:60],
                        times.user + times.system,
                        process.num_ctx_switches().involuntary,
                    )
            except (psutil.Error, OSError):
                continue
        return found

    before, began = look(), time.perf_counter()
    yield
    after, took = look(), time.perf_counter() - began
    used = [
        (n, c - before.get(p, (n, 0.0, 0))[1], s - before.get(p, (n, 0.0, 0))[2])
        for p, (n, c, s) in after.items()
    ]
    for name, seconds, switches in sorted(used, key=lambda u: -u[1])[:most]:
        rows.append(
            (
                name,
                f"{seconds:.2f}",
                f"{100 * seconds / took / (os.cpu_count() or 1):.1f} %",
                f"{switches / took:.0f}",
            )
        )


def _short(word: str) -> str:
    return Path(word).name if "/" in word else word


def in_child(script: str, *arguments: str, memory: bool = True) -> dict[str, str]:
    """Run a function of a benchmark in a process of its own, so that its peak of memory
    is its own: `{name: value}` lines.
    """
    out = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    if out.returncode:
        return {"error": (out.stderr.strip().splitlines() or ["failed"])[-1][:120]}
    return dict(line.split("=", 1) for line in out.stdout.splitlines() if "=" in line)


def remove(operator: Any, tenant: str) -> None:
    """Erase a benchmark's tenant, again while its last events are still being worked
    on.
    """
    for _ in range(10):
        try:
            operator.platform.delete_tenant(id=tenant)
            return
        except Exception as error:
            last = error
            time.sleep(1)
    print(f"the tenant {tenant} is still there: {last}", file=sys.stderr)
