"""Secrets in what may be read by others: logs, captured output, files.

Recognised by their form, and those of the tests' servers by their value. A match names
where it is, and never the secret.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

FORMS = {
    "an API key": rb"shoal_[a-z2-7]{16}_[a-z2-7]{32}(?![a-z2-7])",
    "a token": rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}",
    "a password in a URI": rb"[a-z]{2,}://[^\s/:@\"']*:[\w~.+-]{12,}@[\w.-]+",
}
CHUNK = 2**24
"""Bytes of a file that are searched at once."""

values: dict[bytes, str] = {}
"""Secrets by their value, and what they are."""


def register_servers(*uris: str) -> None:
    """Look for the passwords of servers."""
    for uri in uris:
        if password := urlsplit(uri).password:
            values[password.encode()] = "a server's password"


def leaks(data: bytes) -> Iterator[str]:
    """What secrets there are in a text, and in which line."""
    found = [
        (match.start(), what) for what, form in FORMS.items() for match in re.finditer(form, data)
    ]
    found += [(data.index(value), what) for value, what in values.items() if value in data]
    for at, what in sorted(found):
        yield f"{what} in line {data.count(bytes([10]), 0, at) + 1}"


def leaks_of_files(folder: Path) -> Iterator[str]:
    """What secrets there are in files below a folder, but private ones."""
    for path in sorted(folder.rglob("*")):
        try:
            if not path.is_file() or path.is_symlink() or is_private(path):
                continue
            with path.open("rb") as file:
                while data := file.read(CHUNK):
                    yield from (f"{path}: {leak}" for leak in leaks(data))
        except OSError:  # removed meanwhile
            continue


def is_private(path: Path) -> bool:
    """Whether a file is meant for secrets: its mode is of the owner alone."""
    return not stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
