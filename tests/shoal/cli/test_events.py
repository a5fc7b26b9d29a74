"""`shoal events …`, on the real platform."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shoal import Unauthenticated
from shoal.cli import events, main
from shoal.client.http import Client
from shoal.router.credentials import mint_internal
from shoal.testing.app import SECRET

EVENT = json.dumps(
    {"specversion": "1.0", "id": "1", "source": "/tests", "type": "tests.made", "data": {}}
)


@pytest.fixture
def load(
    shoal_app: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Result]:
    """`shoal events load`, of lines into a tenant."""
    app = shoal_app()
    app.key("acme", "admin")  # which makes the tenant

    def operator_client(tenant: str) -> Client:
        return Client(app.address, mint_internal(SECRET, tenant, "admin"))

    def load(lines: str, tenant: str) -> Result:
        file = tmp_path / "events.ndjson"
        file.write_text(lines)
        return CliRunner().invoke(main.app, ["events", "load", str(file), "--tenant", tenant])

    monkeypatch.setattr(events, "operator_client", operator_client)
    return load


@pytest.mark.parametrize(("lines", "status"), [("no JSON", 1), (f"no JSON\n{EVENT}", 0), ("", 0)])
def test_a_file_without_one_accepted_event_fails(
    load: Callable[[str, str], Result], lines: str, status: int
) -> None:
    done = load(lines, "acme")
    assert done.exit_code == status, done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_an_unknown_tenant_is_named(load: Callable[[str, str], Result]) -> None:
    error = load(EVENT, "initech").exception
    assert isinstance(error, Unauthenticated)
    assert "no tenant 'initech'" in error.detail
