"""Channels: where a tenant's notices are sent.

Each service has a model of its own. A tenant gives ids and tokens of strict forms; the
hosts are the services'. Only a webhook has a URL, which the platform's guard checks.
"""

import logging
import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

log = logging.getLogger("shoal.anomalies")

MAX_URL = 2_000
MAX_RECIPIENTS = 20
SIGNING_SECRET = "whsec_ and the base64 of 24 to 64 random bytes"


V = TypeVar("V", str, SecretStr)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text, or of a secret, which is stored and never shown.

    pattern: A regular expression for all of it.
    description: What it must be; goes into the error and OpenAPI.
    """

    pattern: str
    description: str

    def check(self, value: V) -> V:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"must be {self.description}")
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            **handler(schema),
            "pattern": f"^(?:{self.pattern})$",
            "description": self.description,
        }


MailAddress = Annotated[
    str,
    Form(
        r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
        r"[A-Za-z]{2,63}",
        "an e-mail address such as ops@example.com",
    ),
]


def _check_signing_secret(secret: SecretStr) -> SecretStr:
    try:
        size = len(signing_key(secret))
    except Base64Error:
        size = 0
    if not 24 <= size <= 64:
        raise ValueError(f"must be {SIGNING_SECRET}")
    return secret


def signing_key(secret: SecretStr) -> bytes:
    """The bytes of a webhook's secret."""
    return b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)


class _Channel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool = True

    def shown(self) -> dict[str, Any]:
        """The channel without its secrets, of which it says that they are set."""
        return {
            name: "set" if isinstance(value, SecretStr) else value
            for name, value in self
            if value is not None
        }


class Webhook(_Channel):
    """A server of the tenant's own, which gets JSON, signed as Standard Webhooks say.

    See https://www.standardwebhooks.com.
    """

    type: Literal["webhook"]
    url: Annotated[SecretStr, Field(max_length=MAX_URL)]
    """`https://…`. It may hold a token, so only its host is shown."""
    secret: (
        Annotated[
            SecretStr,
            Form(r"(?:whsec_)?[A-Za-z0-9+/]{32,86}={0,2}", SIGNING_SECRET),
            AfterValidator(_check_signing_secret),
        ]
        | None
    ) = None
    """Signs the requests: `whsec_` and the base64 of 24 to 64 random bytes."""

    def shown(self) -> dict[str, Any]:
        scheme, _, rest = self.url.get_secret_value().partition("://")
        return {**super().shown(), "url": f"{scheme}://{re.split('[/?#]', rest)[0]}/…"}


class Slack(_Channel):
    """An incoming webhook of Slack: `https://hooks.slack.com/services/<token>`."""

    type: Literal["slack"]
    token: Annotated[
        SecretStr,
        Form(
            r"T[A-Z0-9]{6,20}/B[A-Z0-9]{6,20}/[A-Za-z0-9]{16,48}",
            "the end of the webhook's URL, T…/B…/…",
        ),
    ]


class Teams(_Channel):
    """A workflow of Microsoft Teams that posts a card when a webhook request comes."""

    type: Literal["teams"]
    host: Annotated[
        str,
        Form(
            r"(?:prod-[0-9]{1,3}\.[a-z0-9-]{1,40}\.logic\.azure\.com"
            r"|[a-z0-9]{1,63}\.[a-z0-9]{1,8}\.environment\.api\.powerplatform\.com)",
            "the host of the workflow's URL, at logic.azure.com or api.powerplatform.com",
        ),
    ]
    workflow: Annotated[
        str, Form(r"[A-Za-z0-9]{16,64}", "the id after /workflows/ in the workflow's URL")
    ]
    signature: Annotated[
        SecretStr, Form(r"[A-Za-z0-9_-]{20,128}", "the value of sig in the workflow's URL")
    ]


class Email(_Channel):
    """E-mail, by the server that the operator has configured."""

    type: Literal["email"]
    to: list[MailAddress] = Field(min_length=1, max_length=MAX_RECIPIENTS)


class PagerDuty(_Channel):
    """A service of PagerDuty with an Events API v2 integration."""

    type: Literal["pagerduty"]
    routing_key: Annotated[
        SecretStr, Form(r"[A-Za-z0-9]{32}", "the integration key, 32 letters and digits")
    ]
    region: Literal["us", "eu"] = "us"


class Opsgenie(_Channel):
    """A team of Opsgenie with an API integration."""

    type: Literal["opsgenie"]
    api_key: Annotated[
        SecretStr, Form(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "the integration's API key")
    ]
    region: Literal["us", "eu"] = "us"


class Telegram(_Channel):
    """A chat of Telegram that a bot writes to."""

    type: Literal["telegram"]
    bot_token: Annotated[
        SecretStr, Form(r"[0-9]{6,16}:[A-Za-z0-9_-]{30,64}", "the bot's token, 123456:ABC…")
    ]
    chat_id: Annotated[
        str, Form(r"-?[0-9]{1,20}|@[A-Za-z][A-Za-z0-9_]{3,31}", "a chat's number or its @name")
    ]


class Discord(_Channel):
    """A webhook of Discord: `https://discord.com/api/webhooks/<webhook_id>/<token>`."""

    type: Literal["discord"]
    webhook_id: Annotated[str, Form(r"[0-9]{15,22}", "the number in the webhook's URL")]
    token: Annotated[SecretStr, Form(r"[A-Za-z0-9_-]{40,128}", "the end of the webhook's URL")]


AnyChannel = Webhook | Slack | Teams | Email | PagerDuty | Opsgenie | Telegram | Discord
Channel = Annotated[AnyChannel, Discriminator("type")]
"""What `PUT /channels/{id}` takes."""

_channel: TypeAdapter[AnyChannel] = TypeAdapter(Channel)


def load_channel(name: str, stored: bytes | None) -> AnyChannel | None:
    """A channel as `dump_channel` wrote it; None if there is none that can be read."""
    if stored is None:
        return None
    try:
        return _channel.validate_json(stored)
    except ValidationError:  # without its text, which has the channel's secrets
        log.warning("the channel %r cannot be read, and counts as not defined", name)
        return None


def dump_channel(channel: AnyChannel) -> bytes:
    """A channel with its secrets, for the store only."""
    return orjson.dumps(
        {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in channel}
    )
