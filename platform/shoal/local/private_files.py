"""Files that only their owner may read."""

import json
import os
from pathlib import Path
from typing import IO, Any


def open_private(path: Path, mode: str) -> IO[Any]:
    """`open`, with permissions 0600 for a new file."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old or the new file."""
    temporary = path.with_suffix(".new")
    with open_private(temporary, "w") as file:
        json.dump(value, file, indent=2)
    temporary.replace(path)
