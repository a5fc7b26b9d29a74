"""The optimizer, the platform and the console in one process, with a small company:
real Redis, real Router, no Ray.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from shoal.testing.console import serve_console
from shoal_optimizer import shoal_capabilities
from shoal_optimizer.intake import take
from shoal_optimizer.records import Person, Task


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


if __name__ == "__main__":
    serve_console(shoal_capabilities(), seed=seed)
