"""Processes: identity, signals, output, end."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

STOP_TIMEOUT = 15.0
"""Seconds that a process may take to stop before it is killed."""


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it does not run.

    With the id this identifies a process, since ids are reused. Unlike psutil's
    creation time it does not move with the wall clock. A zombie does not run.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def end_process(process: psutil.Process) -> None:
    """Terminate a process and wait for it; kill it if it does not stop in time."""
    with suppress(psutil.Error):
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)


def handle_signals(handler: Callable[..., Any] | signal.Handlers) -> None:
    """Set the handler of Ctrl-C, SIGTERM and the end of the terminal.

    SIGHUP stays ignored where it was, as under `nohup`.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def divert_output(log: Path) -> None:
    """Send stdout and stderr of this process to a file from now on.

    Ray prints its workers' messages there. The command line writes to streams that it
    opened before.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(descriptor, "w", buffering=1)
