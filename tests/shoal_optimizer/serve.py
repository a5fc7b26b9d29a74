"""The optimizer, the platform and the console in one process, with a small company:
real Redis, real Router, no Ray.
"""

import asyncio
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shoal_optimizer import shoal_capabilities
from shoal_optimizer.intake import take
from shoal_optimizer.records import Person, Task
from shoal_optimizer.solver import Solver


class Stub:
    """A backend in this process, called as Serve's would be."""

    def __init__(self) -> None:
        self._solver = Solver()

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(getattr(self._solver, name), *args, **kwargs)

        return call


async def seed(process: Any) -> None:
    context = await process.context("acme", "optimizer")
    deadline = (datetime.now(UTC) + timedelta(days=21)).isoformat()
    people = [
        {"id": "ana", "name": "Ana", "skills": {"Python": 4}, "workload": 20, "cost_per_hour": 60},
        {"id": "bo", "name": "Bo", "skills": {"Python": 3}, "workload": 40, "cost_per_hour": 50},
        {"id": "cy", "name": "Cy", "skills": {"Rust": 5}, "workload": 10, "cost_per_hour": 70},
    ]
    tasks = [
        {"id": "a-sign-in", "title": "Sign-in", "estimated_hours": 20, "deadline": deadline, "skills": [{"skill": "Python", "level": 3}], "team_size": [1, 1]},
        {"id": "b-engine", "title": "Engine", "estimated_hours": 30, "deadline": deadline, "skills": ["Rust"]},
        {"id": "c-ledger", "title": "Ledger", "estimated_hours": 30, "deadline": deadline, "skills": ["Cobol"]},
    ]  # fmt: skip
    await take(context, "people", Person, people)
    await take(context, "tasks", Task, tasks)


def main() -> None:
    path = Path(__file__).parents[1] / "shoal/console/serve.py"
    spec = importlib.util.spec_from_file_location("console_serve", path)
    assert spec and spec.loader
    serve: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    from shoal.runtime.context import ProcessServices

    stub = Stub()
    ProcessServices.backend = lambda self, name: stub  # type: ignore[method-assign]
    [capability] = shoal_capabilities()
    serve.SAMPLES.clear()
    serve.SAMPLES["optimizer"] = capability
    keys = serve.keys

    async def keys_and_seed(process: Any) -> Any:
        made = await keys(process)
        await seed(process)
        return made

    serve.keys = keys_and_seed
    serve.main()


if __name__ == "__main__":
    main()
