"""The optimizer, the platform and the console in one process, with a small tenant."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shoal.testing.console import serve_console
from shoal_optimizer import shoal_capabilities
from shoal_optimizer.intake import store_records

DEADLINE = (datetime.now(UTC) + timedelta(days=21)).isoformat()
PEOPLE = [
    {"id": "ana", "name": "Ana", "skills": {"Python": 4}, "workload": 20, "cost_per_hour": 60},
    {"id": "bo", "name": "Bo", "skills": {"Python": 3}, "workload": 40, "cost_per_hour": 50},
    {"id": "cy", "name": "Cy", "skills": {"Rust": 5}, "workload": 10, "cost_per_hour": 70},
]
TASKS: list[dict[str, Any]] = [
    {
        "id": "a-sign-in",
        "title": "Sign-in",
        "estimated_hours": 20,
        "skills": [{"skill": "Python", "level": 3}],
        "team_size": [1, 1],
    },
    {"id": "b-engine", "title": "Engine", "estimated_hours": 30, "skills": ["Rust"]},
    {"id": "c-payroll", "title": "Payroll", "estimated_hours": 30, "skills": ["Cobol"]},
]


async def seed(process: Any) -> None:
    context = await process.context("acme", "optimizer")
    await store_records(context, "people", PEOPLE)
    await store_records(context, "tasks", [task | {"deadline": DEADLINE} for task in TASKS])


if __name__ == "__main__":
    serve_console(shoal_capabilities(), seed=seed)
