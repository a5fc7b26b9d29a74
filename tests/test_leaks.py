"""The search for secrets finds them, and says nothing of what they are."""

import secrets
from base64 import b32encode
from pathlib import Path

import jwt
import pytest

from . import leaks


def key() -> str:
    id, secret = (b32encode(secrets.token_bytes(n)).decode().lower() for n in (10, 20))
    return f"shoal_{id}_{secret}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (key(), "an API key"),
        (f"Bearer {key()}!", "an API key"),
        (jwt.encode({"sub": "ana"}, "k" * 32), "a token"),
        (f"cannot reach redis://:{secrets.token_urlsafe(24)}@127.0.0.1:1/0", "a password in a URI"),
    ],
    ids=["key", "header", "token", "uri"],
)
def test_a_secret_is_found_in_text_and_files(text: str, what: str, tmp_path: Path) -> None:
    assert list(leaks.leaks(f"a\nb {text}\n".encode())) == [f"{what} in line 2"]
    path = tmp_path / "worker.log"
    path.write_text(f"\n\n{text}")
    assert list(leaks.leaks_of_files(tmp_path)) == [f"{path}: {what} in line 3"]
    path.chmod(0o600)
    assert list(leaks.leaks_of_files(tmp_path)) == []


def test_what_is_no_secret_is_left_alone() -> None:
    for text in ("shoal_<id>_<secret>", "redis://127.0.0.1:6379/0", "redis://:***@h", key()[:30]):
        assert list(leaks.leaks(text.encode())) == []
