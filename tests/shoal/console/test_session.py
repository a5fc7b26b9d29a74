"""Sessions are sealed: nobody reads or makes one without the platform's secret."""

import time

import pytest

from shoal.console.session import LIFETIME, Seal, Session

SESSION = Session("shoal_abc_secret", "ana", "acme", "Acme", "editor")


def test_a_sealed_session_can_be_opened() -> None:
    assert Seal("s" * 40).open(Seal("s" * 40).close(SESSION)) == SESSION


def test_neither_cookie_nor_repr_shows_the_key() -> None:
    assert "secret" not in Seal("s" * 40).close(SESSION)
    assert "secret" not in repr(SESSION)


@pytest.mark.parametrize("cookie", [None, "", "x", "é", "gAAAAA", "a" * 10_000])
def test_an_invalid_cookie_has_no_session(cookie: str | None) -> None:
    assert Seal("s" * 40).open(cookie) is None


def test_a_cookie_of_another_platform_has_no_session() -> None:
    assert Seal("t" * 40).open(Seal("s" * 40).close(SESSION)) is None


def test_a_changed_cookie_has_no_session() -> None:
    cookie = Seal("s" * 40).close(SESSION)
    middle = len(cookie) // 2
    changed = cookie[:middle] + ("A" if cookie[middle] != "A" else "B") + cookie[middle + 1 :]
    assert Seal("s" * 40).open(changed) is None


def test_an_expired_cookie_has_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = Seal("s" * 40).close(SESSION)
    later = time.time() + LIFETIME.total_seconds() + 5
    monkeypatch.setattr(time, "time", lambda: later)
    assert Seal("s" * 40).open(cookie) is None
