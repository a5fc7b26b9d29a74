"""`shoal events …`, on the real platform."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shoal import Event, Unauthenticated
from shoal.cli import events, main
from shoal.client.http import Client
from shoal.contract.events import Rejection
from shoal.eventlog.subscription import Handled
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


def test_rejected_events_are_listed_with_their_reasons(
    shoal_app: Callable[..., Any],
    load: Callable[[str, str], Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = shoal_app()
    app.key("acme", "admin")

    async def reject(_: str, found: list[Event]) -> Handled:
        asyncio.get_running_loop().call_later(0.2, stop.set)
        return Handled(rejections=[Rejection(event, "data.n: must be text") for event in found])

    async def tenants() -> list[str]:
        return ["acme"]

    stop = asyncio.Event()
    load(EVENT, "acme")
    log = app.platform.event_log
    app.run(log.consume("cli.x", "w", reject, types=("tests.made",), tenants=tenants, stop=stop))
    shown: list[Any] = []
    monkeypatch.setattr(events, "show", lambda value, text: shown.append((value, text)))
    CliRunner().invoke(main.app, ["events", "rejected", "--tenant", "acme"])
    [(found, table)] = shown
    assert found["counts"]["cli.x"] == table.row_count == len(found["events"]) > 0
    assert {row["reason"] for row in found["events"]} == {"data.n: must be text"}
