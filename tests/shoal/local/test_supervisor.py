"""How one sees whether a Shoal runs on a data folder."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.contract.errors import Invalid
from shoal.local.embedded_servers import began
from shoal.local.supervisor import running
from shoal.runtime.configuration import Config


def state(folder: Path, **facts: object) -> Path:
    (folder / "state.json").write_text(json.dumps(facts))
    return folder


def test_the_process_that_the_state_names_runs(tmp_path: Path) -> None:
    found = running(state(tmp_path, pid=os.getpid(), began=began(os.getpid())))
    assert found is not None and found["pid"] == os.getpid()


def test_another_process_of_the_same_id_is_not_it(tmp_path: Path) -> None:
    assert running(state(tmp_path, pid=os.getpid(), began=1)) is None


def test_one_that_was_killed_and_that_nobody_has_waited_for_does_not_run(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state(tmp_path, pid=child.pid, began=began(child.pid))
    assert running(tmp_path) is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but still a zombie
    assert running(tmp_path) is None
    child.wait()
    assert running(tmp_path) is None


def test_nothing_half_a_file_or_another_form_of_it_is_no_shoal(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    (tmp_path / "state.json").write_text('{"pid": ')
    assert running(tmp_path) is None
    assert running(state(tmp_path, pid=os.getpid())) is None


def test_a_spinner_on_a_terminal_leaves_diverted_output_diverted(tmp_path: Path) -> None:
    """What Ray prints must not come between our lines, wherever the spinner begins."""
    script = """
import sys
from pathlib import Path

import pytest
from shoal.cli.main import out, spinner
from shoal.local.supervisor import divert_output
assert out.is_terminal
with spinner() as progress:
    progress("starting")
    divert_output(Path(sys.argv[1]))
    print("one of Ray's warnings")
print("another")
with spinner() as progress:
    print("a third")
out.print("ours")
"""
    log, shown = tmp_path / "driver.log", bytearray()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-c", script, str(log)],
            {**os.environ, "TERM": "xterm"},
        )
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while read := os.read(terminal, 4096):
            shown += read
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert b"ours" in shown
    assert log.read_text().split("\n") == ["one of Ray's warnings", "another", "a third", ""]


def test_json_goes_to_the_output_that_was_also_when_output_is_diverted(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path

import pytest
from shoal.cli.main import fail, show
from shoal.contract.errors import Unavailable
from shoal.local.supervisor import divert_output
divert_output(Path(sys.argv[1]))
print("one of Ray's warnings")
show({"a": 1})
fail(Unavailable("the cluster is away"))
"""
    log, env = tmp_path / "driver.log", {**os.environ, "SHOAL_JSON_OUTPUT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(log)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    answer, problem = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, answer, problem["detail"]) == (1, {"a": 1}, "the cluster is away")
    assert log.read_text() == "one of Ray's warnings\n"


def test_brackets_in_what_others_wrote_are_no_markup() -> None:
    script = """
from shoal.cli.main import fail, show, table
from shoal.contract.errors import Invalid
show([], table([{"type": "[/x]", "error": "column [boards_30d]"}], "type", "error"))
fail(Invalid("one of [/a, /b]", errors=[{"location": "features", "message": "[tasks_30d]"}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "[/x]" in done.stdout and "[boards_30d]" in done.stdout
    assert "one of [/a, /b]" in done.stderr and "[tasks_30d]" in done.stderr


def test_a_wrong_configuration_is_said_without_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_STORES__ONLINE", "redis://:topsecret@host:6379")
    with pytest.raises(Invalid) as wrong:
        Config.load()
    assert [fault["location"] for fault in wrong.value.errors] == ["stores.vectors", "stores.lake"]
    assert "topsecret" not in f"{wrong.value} {wrong.value.errors} {wrong.value.__cause__}"
