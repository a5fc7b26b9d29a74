"""`state.json` in the data folder: which supervisor runs on it, and what it reports."""

import json
import os
from pathlib import Path
from typing import Any

from shoal.contract.errors import Unavailable

from .private_files import write_json
from .processes import start_time


def running_state(data: Path) -> dict[str, Any] | None:
    """The state of a data folder, if the supervisor that wrote it is running.

    Returns:
        `pid`, `started` (see `start_time`), `ready`, and once ready `failed`: the
        applications that did not start, with the cause.
    """
    try:
        state: dict[str, Any] = json.loads((data / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return state if start_time(state.get("pid", 0)) == state.get("started", -1) else None


def require_stopped(data: Path) -> None:
    """Raise Unavailable if another process runs Shoal on this data folder."""
    state = running_state(data)
    if state is not None and state["pid"] != os.getpid():
        raise Unavailable(
            f"Shoal already runs on {data} (process {state['pid']}); `shoal down` stops it"
        )


def create_state(data: Path) -> None:
    """Record that this process runs the data folder."""
    pid = os.getpid()
    write_json(data / "state.json", {"pid": pid, "started": start_time(pid), "ready": False})


def update_state(data: Path, **facts: Any) -> None:
    """Add facts to the state."""
    path = data / "state.json"
    write_json(path, {**json.loads(path.read_text()), **facts})


def remove_state(data: Path) -> None:
    """Record that nothing runs on the data folder."""
    (data / "state.json").unlink(missing_ok=True)
