"""What `make demo` loads, through the real capabilities."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from shoal.cli.demo import SEED, loading_steps
from shoal.local.sample import workspace

CAPABILITIES = ("search", "features", "anomalies", "experiments", "optimizer")
STEPS = ("boards", "people", "tasks", "outcomes", "metrics", "events")
"""All but the items, which are checked one by one where the sample is tested."""


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_the_platform_takes_all_that_the_demo_loads(
    tenant: str, shoal_app: Callable[..., Any]
) -> None:
    sample = workspace(tenant, seed=SEED, now=datetime.now(UTC))
    app = shoal_app(*CAPABILITIES)
    with app.client(tenant) as client:
        steps = dict(loading_steps(sample, client, set(CAPABILITIES)))
        assert set(steps) == {*STEPS, "items"}
        for step in STEPS:
            assert len(list(steps[step])) > 0
