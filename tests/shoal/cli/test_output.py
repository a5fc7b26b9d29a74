import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

SPINNER = """
import sys
from pathlib import Path

import pytest
from shoal.cli.output import Spinner, out
from shoal.local.processes import divert_output
assert out.is_terminal
with Spinner() as progress:
    progress("starting")
    divert_output(Path(sys.argv[1]))
    print("a warning of Ray's")
print("another")
with Spinner() as progress:
    print("a third")
out.print("ours")
"""

DIVERTED = """
import sys
from pathlib import Path

import pytest
from shoal.cli.output import fail, show
from shoal.contract.errors import Unavailable
from shoal.local.processes import divert_output
divert_output(Path(sys.argv[1]))
print("a warning of Ray's")
show({"a": 1})
fail(Unavailable("the cluster is unavailable"))
"""

BRACKETS = """
from shoal.cli.output import fail, show, table
from shoal.contract.errors import Invalid
show([], table([{"type": "[/x]", "error": "column [boards_30d]"}], "type", "error"))
fail(Invalid("one of [/a, /b]", errors=[{"location": "features", "message": "[tasks_30d]"}]))
"""


def test_a_spinner_leaves_diverted_output_diverted(tmp_path: Path) -> None:
    log, shown = tmp_path / "driver.log", bytearray()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-c", SPINNER, str(log)],
            {**os.environ, "TERM": "xterm"},
        )
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while read := os.read(terminal, 4096):
            shown += read
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert b"ours" in shown
    assert log.read_text().split("\n") == ["a warning of Ray's", "another", "a third", ""]


def test_json_goes_to_stdout_while_output_is_diverted(tmp_path: Path) -> None:
    log, env = tmp_path / "driver.log", {**os.environ, "SHOAL_JSON_OUTPUT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DIVERTED, str(log)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    answer, problem = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, answer) == (1, {"a": 1})
    assert problem["detail"] == "the cluster is unavailable"
    assert log.read_text() == "a warning of Ray's\n"


def test_brackets_in_data_are_not_markup() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BRACKETS], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "[/x]" in done.stdout and "[boards_30d]" in done.stdout
    assert "one of [/a, /b]" in done.stderr and "[tasks_30d]" in done.stderr


def test_a_single_fault_is_printed_once() -> None:
    script = """
from shoal.cli.output import fail
from shoal.contract.errors import Invalid
fail(Invalid.at("query.by", "must be day or month"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == ["✗ query.by: must be day or month"]


def test_long_text_is_not_broken_into_lines() -> None:
    script = "from shoal.cli.output import show; show({}, 'word ' * 100 + 'end')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "word " * 100 + "end\n"
