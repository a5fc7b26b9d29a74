"""Channels: strict fields, no address but a webhook's, no secret shown."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from shoal import Egress, Event, Invalid
from shoal_anomalies import keys
from shoal_anomalies.channels import AnyChannel, Channel, dump_channel, load_channel
from shoal_anomalies.config_routes import router

from .channel_samples import CANARY, CHANNELS, WEBHOOK_SECRET, channel
from .conftest import DefaultServices
from .test_routes import serve

FREE_FORM = [
    "https://hooks.example/x",
    "http://127.0.0.1:8265/api/jobs/",
    "//127.0.0.1",
    "127.0.0.1",
    "127.0.0.1:8265",
    "localhost",
    "[::1]",
    "169.254.169.254",
    "hooks.example",
    "../../x",
    "/etc/passwd",
    "file:///etc/passwd",
    "a@127.0.0.1",
    "a@[127.0.0.1]",
    "x?y=z",
    "x#y",
    "x&y",
    "a/b",
    "a\r\nX-Header: b",
    "a b",
    "%2e%2e",
    "é",
    "",
    " ",
    "\0",
    "x" * 3_000,
]
TO_TESTS = Egress(allow=("127.0.0.1",))
channels: TypeAdapter[AnyChannel] = TypeAdapter(Channel)


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_channel_is_stored_and_read_back(kind: str) -> None:
    made = channels.validate_python(channel(kind, enabled=False))
    assert load_channel("c", dump_channel(made)) == made
    assert json.loads(dump_channel(made)).items() >= channel(kind, enabled=False).items()


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_channels_secrets_are_not_shown(kind: str) -> None:
    made = channels.validate_python(channel(kind))
    for shown in (json.dumps(made.shown()), repr(made), str(made)):
        assert CANARY[:32] not in shown and WEBHOOK_SECRET not in shown
        assert "0123abcd" not in shown


def fields() -> list[tuple[str, str, Any]]:
    """Every field that takes a text but a webhook's URL, with its good value."""
    found = []
    for kind in CHANNELS:
        for name in type(channels.validate_python(channel(kind))).model_fields:
            if name not in ("type", "enabled") and (kind, name) != ("webhook", "url"):
                found.append((kind, name, CHANNELS[kind].get(name)))
    return found


def put_into(kind: str, name: str, good: Any, text: str) -> dict[str, Any]:
    return channel(kind, **{name: [text] if isinstance(good, list) else text})


@pytest.mark.parametrize(("kind", "name", "good"), fields())
@pytest.mark.parametrize("text", FREE_FORM)
def test_no_field_but_a_webhooks_url_takes_an_address(
    kind: str, name: str, good: Any, text: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        channels.validate_python(put_into(kind, name, good, text))
    assert [error["loc"][:2] for error in refusal.value.errors()] == [(kind, name)]


@given(st.sampled_from(fields()), st.text(max_size=200))
def test_a_field_holds_nothing_that_ends_a_part_of_a_url(
    field: tuple[str, str, Any], text: str
) -> None:
    kind, name, good = field
    try:
        made = channels.validate_python(put_into(kind, name, good, text))
    except ValidationError:
        return
    value = getattr(made, name)
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    special = "?#&\\%\r\n\0 " + ("" if name in ("to", "chat_id") else "@")
    assert not set("".join(value)) & set(special)


@pytest.mark.parametrize(
    "host",
    [
        "evil.logic.azure.com",
        "prod-1.x.logic.azure.com.evil.example",
        "evil.example/prod-1.x.logic.azure.com",
        "prod-1.x.logic.azure.com:8080",
        "user@prod-1.x.logic.azure.com",
        "logic.azure.com",
        "prod-1.x.logic.azure.com\n",
        "PROD-1.x.logic.azure.com",
        "environment.api.powerplatform.com",
    ],
)
def test_a_workflow_is_at_microsofts_hosts(host: str) -> None:
    with pytest.raises(ValidationError):
        channels.validate_python(channel("teams", host=host))


@pytest.mark.parametrize(
    "secret", ["whsec_", "whsec_abc", "whsec_" + "!" * 40, "whsec_" + "QUFB" * 40, "MfKQ9r8GKYqr"]
)
def test_a_weak_signing_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="24 to 64 random bytes"):
        channels.validate_python(channel("webhook", secret=secret))


def schemas() -> dict[str, Any]:
    app = FastAPI()
    included = APIRouter()
    included.routes.extend(router.routes)
    app.include_router(included)
    return app.openapi()["components"]["schemas"]  # type: ignore[no-any-return]


def test_openapi_has_no_free_text_but_a_webhooks() -> None:
    free = set()
    for model in ("Webhook", "Slack", "Teams", "Email", "PagerDuty", "Opsgenie", "Telegram"):
        for name, schema in schemas()[model]["properties"].items():
            text = schema.get("items", schema)
            if text.get("type") == "string" and not text.keys() & {"pattern", "const", "enum"}:
                free.add((model, name))
    assert free == {("Webhook", "url")}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(set(CHANNELS) - {"email"}))
async def test_a_secret_is_in_no_answer(ctx: Any, kind: str, caplog: Any) -> None:
    caplog.set_level(0)
    async with serve(ctx) as http:
        for body in (
            channel(kind),
            channel(kind, unknown="x"),
            channel(kind, enabled="x"),
            {**channel(kind), "type": "nothing"},
            {
                k: v + "!" if isinstance(v, str) and k != "type" else v
                for k, v in channel(kind).items()
            },
        ):
            answer = await http.put("/channels/c", json=body)
            assert CANARY[:32] not in answer.text and WEBHOOK_SECRET not in answer.text
        listed = await http.get("/channels")
    assert listed.json()["channels"]["c"]["type"] == kind
    assert CANARY[:32] not in listed.text + caplog.text
    assert WEBHOOK_SECRET not in listed.text + caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:8265/api/jobs/?:version=&:entrypoint=echo",
        "http://hooks.example/",
        "https://127.0.0.1:8265/api/jobs/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://169.254.169.254/latest/meta-data/",
        "https://user:password@hooks.example/",
        "file:///etc/passwd",
        "https://",
        "https://hooks.example:99999/",
        "hooks.example",
        "",
    ],
)
async def test_a_webhook_outside_the_guard_is_refused(ctx: Any, url: str) -> None:
    ctx.services.egress = Egress()
    async with serve(ctx) as http:
        answer = await http.put("/channels/c", json={"type": "webhook", "url": url})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["location"] == "url"
        assert (await http.get("/channels")).json() == {"channels": {}}


@pytest.mark.anyio
async def test_e_mail_goes_to_the_operators_domains_only(ctx: Any) -> None:
    services: DefaultServices = ctx.services
    services.section = {
        "email": {"host": "mail", "sender": "shoal@example.com", "domains": ["example.com"]}
    }
    async with serve(ctx) as http:
        good = await http.put("/channels/c", json=channel("email", to=["ops@EXAMPLE.com"]))
        assert good.json()["to"] == ["ops@EXAMPLE.com"]
        bad = await http.put("/channels/c", json=channel("email", to=["a@example.com", "a@b.co"]))
        assert bad.status_code == 422 and bad.json()["errors"][0]["location"] == "to.1"


@pytest.mark.anyio
async def test_a_channel_that_cannot_be_read_hides_no_other(ctx: Any) -> None:
    await ctx.stores.online.hset(keys.CHANNELS, "broken", b'{"type": "nothing"}')
    async with serve(ctx) as http:
        await http.put("/channels/good", json=channel("pagerduty"))
        assert list((await http.get("/channels")).json()["channels"]) == ["good"]
        assert (await http.get("/channels/broken")).status_code == 404


METRICS = [{"metric": "error_rate", "value": value} for value in [0.001] * 200 + [0.5, 0.6]]


@pytest.mark.integration
def test_a_tenants_alert_reaches_what_the_operator_allows(shoal_app: Any, webhook: Any) -> None:
    """A channel, an alert, and a server beside the worker."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=len(METRICS))
    points = [
        Event(type="metric", time=start + timedelta(minutes=n), data=data)
        for n, data in enumerate(METRICS)
    ]
    closed, allowed = shoal_app("anomalies"), shoal_app("anomalies", egress=TO_TESTS)
    with pytest.raises(Invalid, match="https://"):
        closed.client("closed").anomalies.put_channel(id="page", **webhook.channel)
    allowed.client("closed").anomalies.put_channel(id="page", **webhook.channel)
    allowed.client("allowed").anomalies.put_channel(id="page", **webhook.channel)
    for app, tenant in ((closed, "closed"), (allowed, "allowed")):
        rule = app.client(tenant).anomalies.list_rules()["rules"]["error-rate"]
        app.client(tenant).anomalies.put_rule(id="error-rate", **{**rule, "group_wait": 0})
        app.stream("anomalies.points", points, tenant)
        app.job("anomalies.keep", tenant)
    assert {notice["tenant"] for notice in webhook.received} == {"allowed"}
    attempts = closed.client("closed").anomalies.list_deliveries()["deliveries"]
    assert {a["detail"] for a in attempts} == {"not sent: the URL must begin with https://"}
