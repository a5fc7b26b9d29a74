import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal import Unavailable
from shoal.local.processes import start_time
from shoal.local.state import require_stopped, running_state


def write_state(folder: Path, **facts: object) -> Path:
    (folder / "state.json").write_text(json.dumps(facts))
    return folder


def test_the_process_that_the_state_names_is_running(tmp_path: Path) -> None:
    state = running_state(write_state(tmp_path, pid=os.getpid(), started=start_time(os.getpid())))
    assert state is not None and state["pid"] == os.getpid()


def test_another_process_with_the_same_id_does_not_count(tmp_path: Path) -> None:
    assert running_state(write_state(tmp_path, pid=os.getpid(), started=1)) is None


def test_a_zombie_is_not_running(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_state(tmp_path, pid=child.pid, started=start_time(child.pid))
    assert running_state(tmp_path) is not None
    with pytest.raises(Unavailable, match=f"process {child.pid}"):
        require_stopped(tmp_path)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but still a zombie
    assert running_state(tmp_path) is None
    child.wait()
    assert running_state(tmp_path) is None
    child.communicate()


@pytest.mark.parametrize(
    "text",
    [None, '{"pid": ', json.dumps({"pid": os.getpid()})],
    ids=["missing", "broken", "without a start time"],
)
def test_a_missing_or_broken_state_means_nothing_runs(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "state.json").write_text(text)
    assert running_state(tmp_path) is None
