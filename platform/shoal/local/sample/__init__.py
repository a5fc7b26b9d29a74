"""Generated workspaces of two tenants, for `make demo` and tests.

>>> from datetime import UTC, datetime
>>> from shoal.local.sample import workspace
>>> acme = workspace("acme", seed=7, now=datetime(2026, 11, 23, 9, tzinfo=UTC))
>>> acme.boards[0].name
'Payments'
"""

from .model import Board, Incident, Item, Leave, Outcome, Person, Query, Requirement, Task, as_json
from .trial import Trial
from .workspace import TENANTS, Workspace, workspace

__all__ = [
    "TENANTS",
    "Board",
    "Incident",
    "Item",
    "Leave",
    "Outcome",
    "Person",
    "Query",
    "Requirement",
    "Task",
    "Trial",
    "Workspace",
    "as_json",
    "workspace",
]
