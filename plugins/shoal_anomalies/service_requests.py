"""The HTTP requests that bring a message to a channel's service.

Each is a POST of JSON to a fixed address of the service, in the form that its
documentation gives:

- webhook: https://www.standardwebhooks.com
- Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
- Teams: https://learn.microsoft.com/connectors/teams (Adaptive Cards)
- PagerDuty: https://developer.pagerduty.com/docs/events-api-v2
- Opsgenie: https://docs.opsgenie.com/docs/alert-api
- Telegram: https://core.telegram.org/bots/api#sendmessage
- Discord: https://discord.com/developers/docs/resources/webhook#execute-webhook
"""

import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from .channels import (
    AnyChannel,
    Discord,
    Opsgenie,
    PagerDuty,
    Slack,
    Teams,
    Telegram,
    Webhook,
    signing_key,
)
from .messages import Message

JSON = {"content-type": "application/json"}
PAGERDUTY = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
OPSGENIE = {"us": "https://api.opsgenie.com", "eu": "https://api.eu.opsgenie.com"}
SEVERITIES = {"P1": "critical", "P2": "error", "P3": "warning"}


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """A POST request. Its address and headers may hold secrets: do not log them."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def build_request(channel: AnyChannel, message: Message, now: float) -> ServiceRequest:
    """The request that sends a message.

    Args:
        channel: Any but e-mail.
        message: What to send; cut to what the service takes.
        now: Epoch seconds, for the signature.
    """
    return _BUILDERS[type(channel)](channel, message, now)


def _webhook(channel: Webhook, message: Message, now: float) -> ServiceRequest:
    fields = {name: value for name, value in message.data.items() if name != "time"}
    content = {
        "type": f"alert.{message.reason}",
        "timestamp": message.data["time"],
        "data": {**fields, "title": message.title, "text": message.body},
    }
    body, timestamp = orjson.dumps(content), str(int(now))
    headers = {**JSON, "webhook-id": message.id, "webhook-timestamp": timestamp}
    if channel.secret is not None:
        signed = f"{message.id}.{timestamp}.".encode() + body
        digest = hmac.digest(signing_key(channel.secret), signed, "sha256")
        headers["webhook-signature"] = f"v1,{b64encode(digest).decode()}"
    return ServiceRequest(channel.url.get_secret_value(), body, headers)


def _slack(channel: Slack, message: Message, _: float) -> ServiceRequest:
    text = f"*{_escape(message.title)}*\n{_escape(message.body)}"
    url = f"https://hooks.slack.com/services/{channel.token.get_secret_value()}"
    return _post(url, {"text": text[:30_000]})


def _escape(text: str) -> str:
    """Without mentions and links of Slack's."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(channel: Teams, message: Message, _: float) -> ServiceRequest:
    is_logic_app = channel.host.endswith(".logic.azure.com")
    folder = "" if is_logic_app else "/powerautomate/automations/direct"
    query = {
        "api-version": "2016-06-01" if is_logic_app else "2022-03-01-preview",
        "sp": "/triggers/manual/run",
        "sv": "1.0",
        "sig": channel.signature.get_secret_value(),
    }
    path = f"{folder}/workflows/{channel.workflow}/triggers/manual/paths/invoke"
    heading = {"type": "TextBlock", "text": message.title[:1_000], "weight": "bolder", "wrap": True}
    text = {"type": "TextBlock", "text": message.body[:15_000], "wrap": True}
    card = {"type": "AdaptiveCard", "version": "1.4", "body": [heading, text]}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return _post(
        f"https://{channel.host}{path}?{urlencode(query)}",
        {"type": "message", "attachments": [attachment]},
    )


def _pagerduty(channel: PagerDuty, message: Message, _: float) -> ServiceRequest:
    content: dict[str, Any] = {
        "routing_key": channel.routing_key.get_secret_value(),
        "event_action": "resolve" if message.reason == "resolved" else "trigger",
        "dedup_key": message.incident[:255],
        "payload": {
            "summary": message.title[:1_024],
            "source": f"shoal/{message.data['tenant']}",
            "severity": SEVERITIES[message.priority],
            "custom_details": {"text": message.body[:30_000], **message.data},
        },
    }
    return _post(f"{PAGERDUTY[channel.region]}/v2/enqueue", content)


def _opsgenie(channel: Opsgenie, message: Message, _: float) -> ServiceRequest:
    address = f"{OPSGENIE[channel.region]}/v2/alerts"
    content: dict[str, Any] = {"source": "shoal"}
    if message.reason == "resolved":
        alias = quote(message.incident[:512], safe="")
        address += f"/{alias}/close?identifierType=alias"
    else:
        content |= {
            "message": message.title[:130],
            "alias": message.incident[:512],
            "description": message.body[:15_000],
            "priority": message.priority,
        }
    request = _post(address, content)
    key = f"GenieKey {channel.api_key.get_secret_value()}"
    return ServiceRequest(request.url, request.body, {**request.headers, "authorization": key})


def _telegram(channel: Telegram, message: Message, _: float) -> ServiceRequest:
    content = {
        "chat_id": channel.chat_id,
        "text": f"{message.title}\n\n{message.body}"[:4_000],
        "link_preview_options": {"is_disabled": True},
    }
    token = channel.bot_token.get_secret_value()
    return _post(f"https://api.telegram.org/bot{token}/sendMessage", content)


def _discord(channel: Discord, message: Message, _: float) -> ServiceRequest:
    content = {
        "content": f"**{message.title}**\n{message.body}"[:2_000],
        "allowed_mentions": {"parse": []},
    }
    token = channel.token.get_secret_value()
    return _post(f"https://discord.com/api/webhooks/{channel.webhook_id}/{token}", content)


def _post(url: str, content: Mapping[str, Any]) -> ServiceRequest:
    return ServiceRequest(url, orjson.dumps(content), JSON)


_BUILDERS: dict[type, Callable[[Any, Message, float], ServiceRequest]] = {
    Webhook: _webhook,
    Slack: _slack,
    Teams: _teams,
    PagerDuty: _pagerduty,
    Opsgenie: _opsgenie,
    Telegram: _telegram,
    Discord: _discord,
}
