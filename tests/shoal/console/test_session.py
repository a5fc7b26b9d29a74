"""Sessions are sealed: nobody reads or makes one without the platform's secret."""

import time

import pytest

from shoal.console.session import LIFETIME, Seal, Session

SESSION = Session("shoal_abc_secret", "ana", "acme", "Acme", "editor")


def test_what_was_closed_opens_again() -> None:
    assert Seal("s" * 40).open(Seal("s" * 40).close(SESSION)) == SESSION


def test_the_key_is_not_in_the_cookie_nor_in_the_repr() -> None:
    assert "secret" not in Seal("s" * 40).close(SESSION)
    assert "secret" not in repr(SESSION)


@pytest.mark.parametrize("cookie", [None, "", "x", "é", "gAAAAA", "a" * 10_000])
def test_what_is_no_session_opens_nothing(cookie: str | None) -> None:
    assert Seal("s" * 40).open(cookie) is None


def test_another_platforms_cookie_opens_nothing() -> None:
    assert Seal("t" * 40).open(Seal("s" * 40).close(SESSION)) is None


def test_a_changed_cookie_opens_nothing() -> None:
    cookie = Seal("s" * 40).close(SESSION)
    middle = len(cookie) // 2
    changed = cookie[:middle] + ("A" if cookie[middle] != "A" else "B") + cookie[middle + 1 :]
    assert Seal("s" * 40).open(changed) is None


def test_an_old_cookie_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = Seal("s" * 40).close(SESSION)
    later = time.time() + LIFETIME.total_seconds() + 5
    monkeypatch.setattr(time, "time", lambda: later)
    assert Seal("s" * 40).open(cookie) is None
