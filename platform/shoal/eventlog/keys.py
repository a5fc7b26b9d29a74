"""The Redis keys of the event log.

They begin with `@`, as no tenant's id does, so no tenant store can reach them. All of a
tenant's have the hash tag `{tenant}`: in a Redis Cluster they are of one slot, and a
script may use several.
"""

TENANTS = "@events"
"""Sorted set: the tenants that have a log, by the time of the last append. Also the
channel on which an append publishes the tenant's id.
"""


def log(tenant: str) -> str:
    """Stream: all of the tenant's events."""
    return f"@events:{{{tenant}}}"


def retry_queue(tenant: str, group: str) -> str:
    """Stream: events that one group handles again, before anything newer."""
    return f"{log(tenant)}:retry:{group}"


def dead_letters(tenant: str) -> str:
    """Stream: events that a group's handler could not handle."""
    return f"{log(tenant)}:dead"


def dead_letter_counts(tenant: str) -> str:
    """Hash: how many dead letters each group has."""
    return f"{log(tenant)}:dead-counts"


def rejections(tenant: str, group: str) -> str:
    """Stream: events that a group's handler rejected, with the reasons."""
    return f"{log(tenant)}:rejected:{group}"


def rejection_counts(tenant: str) -> str:
    """Hash: how many events each group has rejected in all."""
    return f"{log(tenant)}:rejections"


def groups(tenant: str) -> str:
    """Hash: the position up to which each group has handled the log."""
    return f"{log(tenant)}:groups"


def archive(tenant: str) -> str:
    """Hash: `done`, a position up to which the lake has the log, and `archived`, about
    how many of the log's events are before it.
    """
    return f"{log(tenant)}:archive"


def retracted(tenant: str) -> str:
    """Sorted set: digests of retracted events, by when they may be accepted again, in
    seconds since 1970.
    """
    return f"{log(tenant)}:retracted"


def retracting(tenant: str) -> str:
    """Stream: events that are retracted and that capabilities are yet to be told of."""
    return f"{log(tenant)}:retracting"


KEPT_DAYS, KEPT_MONTHS = 100, 36
"""How long the usage of a day, and of a month, is kept."""
EXPIRY_SECONDS = {"day": KEPT_DAYS * 86_400, "month": KEPT_MONTHS * 31 * 86_400}


def usage(tenant: str, part: str) -> str:
    """Hash: counts of one day or month of the tenant's usage, or what is known of a
    journal of them. They are erased with the log.
    """
    return f"{log(tenant)}:usage:{part}"


# The following are in the online Redis, which does not wait for the disk: they need not
# survive a power cut.


def lease(tenant: str, purpose: str) -> str:
    """String: the worker that handles the tenant's log for a group, or archives it."""
    return f"{log(tenant)}:lease:{purpose}"


def work(stream: str, group: str) -> str:
    """Hash: `taken`, the last position of the batch that a group's worker took, and
    `tries`, how often it took `head` alone.
    """
    return f"{stream}:work:{group}"


def workers(group: str) -> str:
    """Sorted set: a group's workers by their last heartbeat."""
    return f"@workers:{group}"
