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
from shoal.cli.lifecycle import run_until_stopped
from shoal.cli.output import out
from shoal.runtime.configuration import Config

class Supervisor:
    def __init__(self, config):
        self.data, self.running = config.data, True
    def start(self, progress):
        progress("starting")
        return {}
    def watch(self):
        while self.running:
            time.sleep(0.05)
    def request_stop(self, *_):
        self.running = False
    def stop(self, progress):
        progress("stopping")
        time.sleep(0.3)  # a frame of the spinner
        progress("stopped")
        Path(sys.argv[1]).write_text("stopped")

shoal.local.supervisor.Supervisor = Supervisor
assert out.is_terminal
run_until_stopped(Config(), lambda supervisor, seconds: out.print("ready"))
"""


def test_everything_stops_when_the_terminal_is_closed(tmp_path: Path) -> None:
    result = tmp_path / "result"
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execve(
            sys.executable,
            [sys.executable, "-c", SCRIPT, str(result)],
            {**os.environ, "TERM": "xterm"},
        )
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)  # sends SIGHUP, and makes each write an error
    for _ in range(200):
        if result.exists() and result.read_text() == "stopped":
            break
        time.sleep(0.05)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert result.read_text() == "stopped"
