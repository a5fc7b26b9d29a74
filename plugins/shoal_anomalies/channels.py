"""Channels: where a tenant's notices go, and the sending of them through Apprise."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from .alerts import Alert, Reason

ATTEMPTS = 8
FIRST_WAIT = 2.0  # seconds; doubled each time, at most
LONGEST_WAIT = 900.0


class Channel(BaseModel):
    """One Apprise URL (https://github.com/caronc/apprise/wiki), such as `mailtos://…`,
    `slack://…`, `pagerduty://…`, `jsons://…`.

    The URL holds credentials: it is kept, and never shown again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: SecretStr = Field(max_length=2000)
    enabled: bool = True

    @field_validator("url")
    @classmethod
    def _understood(cls, url: SecretStr) -> SecretStr:
        import apprise

        text = url.get_secret_value()
        scheme = text.split("://", 1)[0].lower() if "://" in text else ""
        if (
            scheme in FORBIDDEN
            or apprise.Apprise.instantiate(text, suppress_exceptions=True) is None
        ):
            raise ValueError(
                f"no channel that Apprise knows: {scheme or 'no scheme'}://… (see its list of services)"
            )
        return url


FORBIDDEN = {
    "dbus",
    "glib",
    "gio",
    "gnome",
    "kde",
    "macosx",
    "qt",
    "syslog",
    "windows",
    "file",
    "exec",
    "rsyslog",
}
"""Schemes that act on the server's own machine rather than send."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. `key` is the same at every attempt: receivers that know it can drop
    a repetition.
    """

    key: str
    title: str
    body: str
    reason: Reason
    priority: str
    data: Mapping[str, Any]


class Sender(Protocol):
    async def send(self, channel: Channel, message: Message) -> str | None:
        """None when it went, else what went wrong."""


_VERBS: dict[Reason, str] = {
    "opened": "", "worsened": "Worse: ", "reopened": "Again: ", "reminder": "Still open: ", "escalated": "Escalated: ",
    "resolved": "Resolved: ",
}  # fmt: skip


def message(tenant: str, alert: Alert, reason: Reason, key: str) -> Message:
    """What to tell of an alert."""
    metrics = sorted({m.metric for m in alert.members})
    title = f"[{alert.priority}] {_VERBS[reason]}{', '.join(metrics[:3])}{' …' if len(metrics) > 3 else ''} ({tenant})"
    lines = [alert.sentence, ""]
    for member in alert.members:
        labels = ", ".join(f"{k}={v}" for k, v in member.labels.items())
        state = "recovered" if member.cleared is not None else "firing"
        lines.append(
            f"- {member.metric}{f' ({labels})' if labels else ''}: {state}. {member.sentence}".rstrip()
        )
    lines += ["", f"Alert {alert.id}, {alert.state}."]
    data = {
        "alert": alert.id,
        "tenant": tenant,
        "priority": alert.priority,
        "state": alert.state,
        "metrics": metrics,
    }
    return Message(key, title, "\n".join(lines), reason, alert.priority, data)


class AppriseSender:
    """Sends through Apprise. The key goes along as `Idempotency-Key` to webhooks and
    `X-Shoal-Notice` in e-mail.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self.timeout = timeout

    async def send(self, channel: Channel, message: Message) -> str | None:
        import apprise

        url = _with_key(channel.url.get_secret_value(), message.key)
        kind = apprise.NotifyType.SUCCESS if message.reason == "resolved" else (
            apprise.NotifyType.FAILURE if message.priority == "P1" else apprise.NotifyType.WARNING
        )  # fmt: skip
        log = apprise.LogCapture(level=30, fmt="%(message)s")  # type: ignore[no-untyped-call]
        target = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if target is None:
            return "Apprise no longer understands the channel's URL"
        target.socket_connect_timeout = target.socket_read_timeout = self.timeout
        try:
            with log as captured:
                sent = await asyncio.wait_for(
                    asyncio.to_thread(
                        target.notify,
                        body=message.body,
                        title=message.title,
                        notify_type=kind,
                        body_format="text",
                    ),
                    3 * self.timeout,
                )
                faults = captured.getvalue().strip().splitlines()
        except TimeoutError:
            return f"no answer within {3 * self.timeout:g} seconds"
        except Exception as fault:  # a library of a hundred services: whatever goes wrong is this attempt's failure
            return f"{type(fault).__name__}: {fault}"
        return None if sent else (faults[-1][:300] if faults else "the service refused it")


def _with_key(url: str, key: str) -> str:
    scheme = url.split("://", 1)[0].lower()
    if scheme in ("json", "jsons", "xml", "xmls", "form", "forms"):
        header = f"%2BIdempotency-Key={quote(key, safe='')}"
    elif scheme in ("mailto", "mailtos"):
        header = f"%2BX-Shoal-Notice={quote(key, safe='')}"
    else:
        return url
    return f"{url}{'&' if '?' in url else '?'}{header}"


def wait_before(attempt: int) -> float:
    """Seconds to wait before the attempt of this number (from 1), with a tenth of
    jitter.
    """
    if attempt <= 1:
        return 0.0
    wait = min(FIRST_WAIT * 2.0 ** (attempt - 2), LONGEST_WAIT)
    return wait * random.uniform(0.9, 1.1)
