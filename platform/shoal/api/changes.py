"""What a request added and removed, for the audit log."""

from fastapi import Request

from shoal.tenants.members import MemberChanges
from shoal.tenants.records import MAX_CHANGES


def audit_changes(request: Request, changes: MemberChanges) -> None:
    """Have the audit entry of a request name what it added and removed."""
    named = [f"+{user}" for user in changes.added] + [f"-{user}" for user in changes.removed]
    named = [*request.scope.get("shoal.changes", ()), *named]
    more = len(named) - MAX_CHANGES
    if more > 0:
        named[MAX_CHANGES - 1 :] = [f"and {more + 1} more"]
    request.scope["shoal.changes"] = tuple(named)
