"""All five capabilities and the samples, with the data of their own page tests."""

import runpy
from pathlib import Path
from typing import Any

from samples import CRACKED, GREETING

from shoal.runtime import plugins
from shoal.runtime.plugins import Problem
from shoal.testing.console import serve_console

TESTS = Path(__file__).parents[2]
SEEDED = ("shoal_anomalies", "shoal_optimizer")
DESIGN = {
    "hypothesis": "Green is seen sooner.",
    "variants": [{"name": "control", "allocation": 50}, {"name": "treatment", "allocation": 50}],
    "primary": {"name": "bought", "kind": "proportion"},
    "baseline": 0.1,
    "minimum_effect": 0.3,
    "duration_days": 0,
}


async def seed(platform: Any) -> None:
    """The data of the plugins' tests, a running experiment, and runs of jobs."""
    for name in SEEDED:
        await runpy.run_path(str(TESTS / name / "serve.py"))["seed"](platform)
    context = await platform.context("acme", "platform")
    experiments = context.capability("experiments")
    await experiments.draft(id="green-button", body=DESIGN)
    await experiments.start(id="green-button")
    outcomes = []
    for i in range(90):
        unit = f"u{i}"
        arm = (await experiments.assignment(id="green-button", unit=unit))["variant"]
        if i % 10 < (8 if arm == "treatment" else 1):
            outcomes.append({"unit": unit})
    await experiments.add_outcomes(id="green-button", body=outcomes)
    runs = platform.job_runs
    failed = runs.add("greeting.recite", tenant="acme")
    runs.finish(failed.id, "failed", error="ValueError: nobody listens (samples.py:12)")
    runs.finish(runs.add("greeting.rehearse").id, "succeeded", result={"lines": 1200})


if __name__ == "__main__":
    installed = plugins.installed().capabilities
    serve_console(
        [GREETING, CRACKED, *installed.values()],
        seed=seed,
        problems=[Problem("absent", "ModuleNotFoundError: No module named 'absent'")],
        statuses={"cracked": "UNHEALTHY"},
    )
