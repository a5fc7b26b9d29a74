"""When the terminal goes away, what was started there is stopped all the same."""

import contextlib
import os
import pty
import signal
import sys
import time
from pathlib import Path

SCRIPT = """
import sys, time
from pathlib import Path
import shoal.local.supervisor
from shoal.cli.main import keep_up, out
from shoal.runtime.configuration import Config

class Supervisor:
    def __init__(self, config):
        self.data, self.going = config.data, True
    def start(self, progress):
        progress("starting")
        return {}
    def watch(self):
        while self.going:
            time.sleep(0.05)
    def request_stop(self, *_):
        self.going = False
    def stop(self, progress):
        progress("stopping")
        time.sleep(0.3)  # a frame of the spinner
        progress("stopped")
        Path(sys.argv[1]).write_text("stopped")

shoal.local.supervisor.Supervisor = Supervisor
assert out.is_terminal
keep_up(Config(), lambda supervisor, seconds: out.print("ready"))
"""


def test_all_is_stopped_when_the_terminal_is_closed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execve(
            sys.executable,
            [sys.executable, "-c", SCRIPT, str(told)],
            {**os.environ, "TERM": "xterm"},
        )
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)  # which sends SIGHUP, and makes each write an error
    for _ in range(200):
        if told.exists() and told.read_text() == "stopped":
            break
        time.sleep(0.05)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert told.read_text() == "stopped"


def test_under_nohup_the_terminals_end_does_nothing() -> None:
    from shoal.local.supervisor import on_signals

    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        on_signals(signal.default_int_handler)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        on_signals(signal.default_int_handler)
        assert signal.getsignal(signal.SIGHUP) == signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
