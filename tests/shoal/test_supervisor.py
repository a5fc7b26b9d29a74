"""How one sees whether a Shoal runs on a data folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

from shoal.embedded import began
from shoal.supervisor import running


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
