"""Channels: where a tenant's notices are sent, by Apprise."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from .alerts import Alert, Reason

MAX_ATTEMPTS = 8
FIRST_DELAY = 2.0  # seconds; doubled with each attempt
MAX_DELAY = 900.0
LOCAL_SCHEMES = {
    "dbus",
    "exec",
    "file",
    "gio",
    "glib",
    "gnome",
    "kde",
    "macosx",
    "qt",
    "rsyslog",
    "syslog",
    "windows",
}
"""Schemes of Apprise that act on the server's own machine."""


class Channel(BaseModel):
    """An Apprise URL, such as `mailtos://…`, `slack://…`, `pagerduty://…`, `jsons://…`.

    See https://github.com/caronc/apprise/wiki. The URL contains credentials, so it is
    stored and never shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: SecretStr = Field(max_length=2000)
    enabled: bool = True

    @field_validator("url")
    @classmethod
    def _supported(cls, url: SecretStr) -> SecretStr:
        import apprise

        text = url.get_secret_value()
        scheme = text.split("://", 1)[0].lower() if "://" in text else ""
        is_known = apprise.Apprise.instantiate(text, suppress_exceptions=True) is not None
        if scheme in LOCAL_SCHEMES or not is_known:
            shown = f"{scheme}://…" if scheme else "without a scheme"
            raise ValueError(f"not a URL of a service that Apprise supports: {shown}")
        return url


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send.

    key: the same at every attempt, so that receivers can drop duplicates.
    """

    key: str
    title: str
    body: str
    reason: Reason
    priority: str
    data: Mapping[str, Any]


class Sender(Protocol):
    """Sends messages to channels."""

    async def send(self, channel: Channel, message: Message) -> str | None:
        """Send a message; None on success, else what went wrong."""


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
    for member in alert.members:
        labels = ", ".join(f"{k}={v}" for k, v in member.labels.items())
        name = f"{member.metric} ({labels})" if labels else member.metric
        state = "recovered" if member.cleared is not None else "firing"
        lines.append(f"- {name}: {state}. {member.sentence}".rstrip())
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
    """Sends through Apprise.

    The key of a message is sent as `Idempotency-Key` to webhooks, and as
    `X-Shoal-Notice` in e-mail.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self.timeout = timeout

    async def send(self, channel: Channel, message: Message) -> str | None:
        """Send a message; None on success, else what went wrong."""
        import apprise

        url = _with_key(channel.url.get_secret_value(), message.key)
        target = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if target is None:
            return "Apprise does not support the channel's URL"
        target.socket_connect_timeout = target.socket_read_timeout = self.timeout
        if message.reason == "resolved":
            kind = apprise.NotifyType.SUCCESS
        elif message.priority == "P1":
            kind = apprise.NotifyType.FAILURE
        else:
            kind = apprise.NotifyType.WARNING
        log = apprise.LogCapture(level=30, fmt="%(message)s")  # type: ignore[no-untyped-call]
        try:
            with log as captured:
                notify = asyncio.to_thread(
                    target.notify,
                    body=message.body,
                    title=message.title,
                    notify_type=kind,
                    body_format="text",
                )
                sent = await asyncio.wait_for(notify, 3 * self.timeout)
                errors = captured.getvalue().strip().splitlines()
        except TimeoutError:
            return f"no answer within {3 * self.timeout:g} seconds"
        except Exception as error:  # a hundred services: any error is this attempt's failure
            return f"{type(error).__name__}: {error}"
        if sent:
            return None
        return errors[-1][:300] if errors else "the service rejected the message"


def _with_key(url: str, key: str) -> str:
    scheme = url.split("://", 1)[0].lower()
    if scheme in ("json", "jsons", "xml", "xmls", "form", "forms"):
        header = f"%2BIdempotency-Key={quote(key, safe='')}"
    elif scheme in ("mailto", "mailtos"):
        header = f"%2BX-Shoal-Notice={quote(key, safe='')}"
    else:
        return url
    return f"{url}{'&' if '?' in url else '?'}{header}"


def retry_delay(attempt: int) -> float:
    """Seconds to wait before an attempt (from 1), with a tenth of jitter."""
    if attempt <= 1:
        return 0.0
    delay = min(FIRST_DELAY * 2.0 ** (attempt - 2), MAX_DELAY)
    return delay * random.uniform(0.9, 1.1)
