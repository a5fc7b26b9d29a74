"""Messages about alerts, as they are sent to channels."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from .alerts import Alert, Member, Notice, Reason
from .explanation import format_number
from .timestamps import to_datetime, to_rfc3339

MAX_ATTEMPTS = 8
FIRST_DELAY = 2.0  # seconds; doubled with each attempt
MAX_DELAY = 900.0
MAX_MEMBERS = 50  # series that a message names


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send.

    key: the same at every attempt, so that receivers can drop duplicates.
    data: the alert as plain JSON, see docs/anomalies.md; `time` is that of the message.
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
    "updated": "More: ",
    "worsened": "Worse: ",
    "reopened": "Again: ",
    "reminder": "Still open: ",
    "escalated": "Escalated: ",
    "resolved": "Resolved: ",
}


def build_message(
    tenant: str, alert: Alert, notice: Notice, time: float, public_url: str | None = None
) -> Message:
    """The message that a notice is sent as.

    Args:
        tenant: The tenant.
        alert: The alert as it is now.
        notice: The notice.
        time: Now, epoch seconds.
        public_url: Where people reach the console, for the link.
    """
    metrics = sorted({member.metric for member in alert.active_members or alert.members})
    shown = ", ".join(metrics[:3]) + (" …" if len(metrics) > 3 else "")
    title = f"[{alert.priority}] {_TITLE_PREFIXES[notice.reason]}{shown} ({tenant})"
    # The new ones, then those that still fire: those may be too many to name all.
    members = sorted(
        alert.members, key=lambda m: (not _is_news(m, notice), not m.is_active, m.priority, m.fired)
    )
    link = f"{public_url}/console/anomalies?alert={alert.id}" if public_url else None
    lines = [alert.sentence, ""]
    lines += [_line(member, notice) for member in members[:MAX_MEMBERS]]
    if (others := len(members) - MAX_MEMBERS) > 0:
        lines.append(f"- and {others} more")
    lines += ["", f"Alert {alert.id}, {alert.state}.", *([link] if link else [])]
    data = {
        "alert": alert.id,
        "tenant": tenant,
        "priority": alert.priority,
        "state": alert.state,
        "metrics": metrics[:MAX_MEMBERS],
        "labels": _common_labels(alert),
        "opened": to_rfc3339(alert.opened),
        "resolved": to_rfc3339(alert.resolved),
        "link": link,
        "series_count": len(members),
        "series": [_series(member, notice) for member in members[:MAX_MEMBERS]],
        "time": to_rfc3339(time),
    }
    return Message(notice.key, title, "\n".join(lines), notice.reason, alert.priority, data)


def _is_news(member: Member, notice: Notice) -> bool:
    return f"{member.rule}/{member.series}" in notice.news


def _line(member: Member, notice: Notice) -> str:
    """A series, what its rule says, and how it is."""
    labels = ", ".join(f"{key}={value}" for key, value in member.labels.items())
    name = f"{member.metric} ({labels})" if labels else member.metric
    state = "firing" if member.is_active else "recovered"
    state = f"new, {state}" if notice.reason != "opened" and _is_news(member, notice) else state
    named = f"{member.rule_name} ({member.rule})" if member.rule_name else member.rule
    limit = "" if member.limit is None else f", {member.condition} {format_number(member.limit)}"
    since = f"{to_datetime(member.since):%Y-%m-%d %H:%M} UTC"
    last = f"{to_datetime(member.time):%Y-%m-%d %H:%M} UTC"
    if member.value is None:
        values = f"no data since the point of {last}"
    else:
        values = f"{format_number(member.value)} at {last}"
        if member.first_value is not None and member.value != member.first_value:
            values += f", {format_number(member.first_value)} as it fired"
    others = "".join(f", {key} {format_number(value)}" for key, value in member.others.items())
    return f"- {name}: {state} since {since}; {values}{others}. Rule: {named}{limit}."


def _series(member: Member, notice: Notice) -> dict[str, Any]:
    return {
        "series": member.series,
        "metric": member.metric,
        "labels": member.labels,
        "state": "firing" if member.is_active else "recovered",
        "new": _is_news(member, notice),
        "priority": member.priority,
        "rule": member.rule,
        "rule_name": member.rule_name,
        "condition": member.condition,
        "limit": member.limit,
        "value": member.value,
        "first_value": member.first_value,
        "others": member.others,
        "time": to_rfc3339(member.time),
        "since": to_rfc3339(member.since),
        "sentence": member.sentence,
    }


def _common_labels(alert: Alert) -> dict[str, str]:
    """The labels that all series of an alert have in common."""
    first, *others = (member.labels for member in alert.members)
    return {
        key: value
        for key, value in first.items()
        if all(labels.get(key) == value for labels in others)
    }


def retry_delay(attempt: int) -> float:
    """Seconds to wait before an attempt (from 1), with a tenth of jitter."""
    if attempt <= 1:
        return 0.0
    delay = min(FIRST_DELAY * 2.0 ** (attempt - 2), MAX_DELAY)
    return delay * random.uniform(0.9, 1.1)
