"""A valid channel of every type, whose secrets can be searched for."""

from typing import Any

CANARY = "CANARY0canary0CANARY0canary0CANARY0canary0CANARY"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CHANNELS: dict[str, dict[str, Any]] = {
    "webhook": {"url": f"https://hooks.example/{CANARY}", "secret": WEBHOOK_SECRET},
    "slack": {"token": f"T00000000/B00000000/{CANARY}"},
    "teams": {
        "host": "prod-12.westeurope.logic.azure.com",
        "workflow": "0123456789abcdef0123456789abcdef",
        "signature": CANARY,
    },
    "email": {"to": ["ops@example.com", "first.last+tag@mail.example.co.uk"]},
    "pagerduty": {"routing_key": CANARY[:32], "region": "eu"},
    "opsgenie": {"api_key": "0123abcd-0123-abcd-0123-0123456789ab"},
    "telegram": {"bot_token": f"123456789:{CANARY}", "chat_id": "-1001234567890"},
    "discord": {"webhook_id": "123456789012345678", "token": CANARY},
}


def channel(kind: str, **changed: Any) -> dict[str, Any]:
    return {"type": kind, **CHANNELS[kind], **changed}
