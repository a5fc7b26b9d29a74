"""Sessions are sealed: nobody reads or makes one without the platform's secret."""

import time

import pytest

from shoal.console.session import LIFETIME, Session, SessionCodec

SESSION = Session("shoal_abc_secret", "ana", "acme", "Acme", "editor", ["read:own", "write:own"])


def test_a_sealed_session_can_be_opened() -> None:
    assert SessionCodec("s" * 40).decode(SessionCodec("s" * 40).encode(SESSION)) == SESSION


def test_neither_cookie_nor_repr_shows_the_key() -> None:
    assert "secret" not in SessionCodec("s" * 40).encode(SESSION)
    assert "secret" not in repr(SESSION)


@pytest.mark.parametrize("cookie", [None, "", "x", "é", "gAAAAA", "a" * 10_000])
def test_an_invalid_cookie_has_no_session(cookie: str | None) -> None:
    assert SessionCodec("s" * 40).decode(cookie) is None


def test_a_cookie_of_another_platform_has_no_session() -> None:
    assert SessionCodec("t" * 40).decode(SessionCodec("s" * 40).encode(SESSION)) is None


def test_a_changed_cookie_has_no_session() -> None:
    cookie = SessionCodec("s" * 40).encode(SESSION)
    middle = len(cookie) // 2
    changed = cookie[:middle] + ("A" if cookie[middle] != "A" else "B") + cookie[middle + 1 :]
    assert SessionCodec("s" * 40).decode(changed) is None


def test_an_expired_cookie_has_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = SessionCodec("s" * 40).encode(SESSION)
    later = time.time() + LIFETIME.total_seconds() + 5
    monkeypatch.setattr(time, "time", lambda: later)
    assert SessionCodec("s" * 40).decode(cookie) is None
