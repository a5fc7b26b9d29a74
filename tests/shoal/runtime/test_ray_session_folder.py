"""Ray's folders are closed to other users of the machine."""

import stat
from pathlib import Path

from shoal.runtime.ray_head import close_session_folder


def test_others_reach_no_session_and_replace_none(tmp_path: Path) -> None:
    root, session = tmp_path / "ray", tmp_path / "ray" / "session_1"
    session.mkdir(parents=True)
    for folder in (root, session):
        folder.chmod(0o777)
    (root / "session_latest").symlink_to(session)
    close_session_folder(root)
    assert stat.S_IMODE(session.stat().st_mode) == 0o700
    assert stat.S_IMODE(root.stat().st_mode) == 0o1777


def test_a_folder_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    close_session_folder(tmp_path / "none")
