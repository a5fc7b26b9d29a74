"""Messages about alerts, as they are sent to channels."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from .alerts import Alert, Reason
from .timestamps import to_rfc3339

MAX_ATTEMPTS = 8
FIRST_DELAY = 2.0  # seconds; doubled with each attempt
MAX_DELAY = 900.0
MAX_MEMBERS = 50  # series that a message names


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send.

    key: the same at every attempt, so that receivers can drop duplicates.
    data: the alert's id, tenant, priority, state, metrics, and the time it changed.
    """

    key: str
    title: str
    body: str
    reason: Reason
    priority: str
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The key with its tenant, in letters and digits: for headers."""
        return "msg_" + sha256(f"{self.data['tenant']}/{self.key}".encode()).hexdigest()[:32]

    @property
    def incident(self) -> str:
        """The same for all messages about an alert."""
        return f"shoal-{self.data['tenant']}-{self.data['alert']}"


_TITLE_PREFIXES: dict[Reason, str] = {
    "opened": "",
    "worsened": "Worse: ",
    "reopened": "Again: ",
    "reminder": "Still open: ",
    "escalated": "Escalated: ",
    "resolved": "Resolved: ",
}


def build_message(tenant: str, alert: Alert, reason: Reason, key: str) -> Message:
    """The message about an alert."""
    metrics = sorted({member.metric for member in alert.members})
    shown = ", ".join(metrics[:3]) + (" …" if len(metrics) > 3 else "")
    title = f"[{alert.priority}] {_TITLE_PREFIXES[reason]}{shown} ({tenant})"
    lines = [alert.sentence, ""]
    for member in alert.members[:MAX_MEMBERS]:
        labels = ", ".join(f"{k}={v}" for k, v in member.labels.items())
        name = f"{member.metric} ({labels})" if labels else member.metric
        state = "recovered" if member.cleared is not None else "firing"
        lines.append(f"- {name}: {state}. {member.sentence}".rstrip())
    if (others := len(alert.members) - MAX_MEMBERS) > 0:
        lines.append(f"- and {others} more")
    lines += ["", f"Alert {alert.id}, {alert.state}."]
    data = {
        "alert": alert.id,
        "tenant": tenant,
        "priority": alert.priority,
        "state": alert.state,
        "metrics": metrics[:MAX_MEMBERS],
        "time": to_rfc3339(alert.updated),
    }
    return Message(key, title, "\n".join(lines), reason, alert.priority, data)


def retry_delay(attempt: int) -> float:
    """Seconds to wait before an attempt (from 1), with a tenth of jitter."""
    if attempt <= 1:
        return 0.0
    delay = min(FIRST_DELAY * 2.0 ** (attempt - 2), MAX_DELAY)
    return delay * random.uniform(0.9, 1.1)
