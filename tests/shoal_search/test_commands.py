"""`shoal search …`, on the real platform."""

import secrets
import threading
import time
from typing import Any

import pytest
from typer.testing import CliRunner

import shoal
from shoal.client.http import Client
from shoal.router.credentials import mint_internal
from shoal.runtime.job_runs import Run
from shoal.tenants.records import PLATFORM
from shoal.testing import CapabilityApp
from shoal.testing.app import SECRET
from shoal_search.commands import commands

pytestmark = pytest.mark.integration


class Worker(threading.Thread):
    """Claims a tenant's run and ends it as it is told."""

    def __init__(self, app: CapabilityApp, tenant: str, **end: Any) -> None:
        super().__init__(daemon=True)
        self._runs, self._tenant, self._end = app.platform.job_runs, tenant, end
        self.run_made: Run | None = None

    def run(self) -> None:
        while self.run_made is None:
            run = self._runs.claim()
            if run is not None and run.tenant == self._tenant:
                self.run_made = run
            time.sleep(0.01)
        self._runs.finish(self.run_made.id, **self._end)


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ({"state": "succeeded", "result": {"items": 1_234}}, 0, "1,234 items are indexed"),
        ({"state": "failed", "error": "no model [large]"}, 1, "failed: no model [large]"),
    ],
)
def test_reindex_runs_the_job_and_tells_how_it_ended(
    shoal_app: Any, monkeypatch: pytest.MonkeyPatch, end: dict[str, Any], status: int, said: str
) -> None:
    app, tenant = shoal_app("search"), f"acme-{secrets.token_hex(4)}"
    app.key(tenant)
    operator = Client(app.address, mint_internal(SECRET, PLATFORM, "admin"))
    monkeypatch.setattr(shoal, "operator_client", lambda: operator)
    worker = Worker(app, tenant, **end)
    worker.start()
    done = CliRunner().invoke(
        commands(), ["reindex", "--tenant", tenant, "--model", "large"], catch_exceptions=False
    )
    worker.join()
    assert worker.run_made is not None
    assert worker.run_made.job == "search.reindex"
    assert worker.run_made.arguments == {"fresh": False, "model": "large"}
    assert done.exit_code == status
    assert said in done.output
