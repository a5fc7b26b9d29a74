"""What is sent to each service, and what a tenant is told when it fails."""

import json
import ssl
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from standardwebhooks import Webhook as Verifier

from shoal import Egress
from shoal_anomalies.channels import load_channel
from shoal_anomalies.messages import Message
from shoal_anomalies.sender import send
from shoal_anomalies.service_requests import build_request

from .channel_samples import CANARY, CHANNELS, WEBHOOK_SECRET, channel
from .conftest import DefaultServices, Webhook

pytestmark = pytest.mark.anyio

HOSTS = {
    "slack": "hooks.slack.com",
    "teams": "prod-12.westeurope.logic.azure.com",
    "pagerduty": "events.eu.pagerduty.com",
    "opsgenie": "api.opsgenie.com",
    "telegram": "api.telegram.org",
    "discord": "discord.com",
}


def message(reason: Any = "opened", title: str = "Ünusual", body: str = "one\ntwo") -> Message:
    data = {
        "alert": "a1",
        "tenant": "acme",
        "priority": "P1",
        "state": "open",
        "metrics": ["error_rate"],
        "time": "2026-01-01T00:00:00Z",
    }
    return Message("a1/opened/page", title, body, reason, "P1", data)


def read(fields: dict[str, Any]) -> Any:
    return load_channel("c", json.dumps(fields).encode())


def content(kind: str, sent: Message) -> Any:
    return json.loads(build_request(read(channel(kind)), sent, 0).body)


@pytest.mark.parametrize("kind", sorted(HOSTS))
def test_a_service_has_a_fixed_host(kind: str) -> None:
    url = urlsplit(build_request(read(channel(kind)), message(), 0).url)
    assert (url.scheme, url.netloc) == ("https", HOSTS[kind])
    Egress().check_url(url.geturl())


@pytest.mark.parametrize("kind", sorted({*HOSTS, "webhook"}))
def test_a_request_shows_no_secret(kind: str) -> None:
    assert CANARY[:32] not in repr(build_request(read(channel(kind)), message(), 0))


@pytest.mark.parametrize(
    ("kind", "limit"), [("discord", 2_000), ("telegram", 4_096), ("slack", 40_000)]
)
def test_a_long_message_is_cut_to_what_the_service_takes(kind: str, limit: int) -> None:
    sent = content(kind, message(title="&" * 9_000, body="<" * 90_000))
    assert len(sent["content" if kind == "discord" else "text"]) <= limit


def test_a_message_mentions_nobody() -> None:
    hostile = message(title="<!channel>", body="@everyone <@U123> <http://x|y>")
    assert "<" not in content("slack", hostile)["text"]
    assert content("discord", hostile)["allowed_mentions"] == {"parse": []}
    assert "parse_mode" not in content("telegram", hostile)


def test_an_incident_is_opened_and_resolved_under_one_key() -> None:
    opened, resolved = (content("pagerduty", message(r)) for r in ("opened", "resolved"))
    assert [opened["event_action"], resolved["event_action"]] == ["trigger", "resolve"]
    assert opened["dedup_key"] == resolved["dedup_key"]
    assert opened["payload"]["severity"] == "critical"
    alias = content("opsgenie", message())["alias"]
    closing = build_request(read(channel("opsgenie")), message("resolved"), 0)
    assert closing.url.endswith(f"/{alias}/close?identifierType=alias")


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("prod-1.eastus.logic.azure.com", "/workflows/"),
        (
            "default0a1b.c2.environment.api.powerplatform.com",
            "/powerautomate/automations/direct/workflows/",
        ),
    ],
)
def test_a_workflows_url_is_put_together(host: str, path: str) -> None:
    url = urlsplit(build_request(read(channel("teams", host=host)), message(), 0).url)
    assert url.netloc == host and url.path.startswith(path)
    assert f"sig={CANARY}" in url.query


async def test_a_webhook_gets_signed_json(ctx: Any, webhook: Webhook) -> None:
    given = read({**webhook.channel, "secret": WEBHOOK_SECRET})
    for _ in range(2):
        assert await send(ctx.services, given, message()) is None
    (headers, body), (again, _) = webhook.requests
    Verifier(WEBHOOK_SECRET).verify(body, headers)
    assert headers["webhook-id"] == again["webhook-id"] == message().id
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "type": "alert.opened",
        "timestamp": "2026-01-01T00:00:00Z",
        "data": {
            "alert": "a1",
            "tenant": "acme",
            "priority": "P1",
            "state": "open",
            "metrics": ["error_rate"],
            "title": "Ünusual",
            "text": "one\ntwo",
        },
    }


def test_a_key_is_another_in_another_tenant() -> None:
    ours = message()
    theirs = Message(**{**{n: getattr(ours, n) for n in ours.__slots__}, "data": {"tenant": "b"}})
    assert ours.id != theirs.id


@pytest.mark.parametrize("status", [302, 400, 404, 500])
async def test_a_tenant_learns_the_status_and_no_more(
    ctx: Any, webhook: Webhook, caplog: Any, status: int
) -> None:
    caplog.set_level(0)
    webhook.status, webhook.answer = status, b"root:x:0:0:root:/root"
    webhook.headers = {"location": "http://127.0.0.1:1/internal", "x-secret": "internal"}
    given = read({"type": "webhook", "url": f"{webhook.url}/{CANARY}?{CANARY}"})
    said = await send(ctx.services, given, message())
    assert said is not None and str(status) in said
    assert "root" not in said and "internal" not in said and CANARY not in said
    assert CANARY not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://localhost:1/"])
async def test_a_failure_is_told_without_an_address(ctx: Any, url: str, caplog: Any) -> None:
    caplog.set_level(0)
    said = await send(ctx.services, read({"type": "webhook", "url": f"{url}{CANARY}"}), message())
    assert said is not None and CANARY not in said and "127.0.0.1" not in said
    assert CANARY not in caplog.text


async def test_a_webhook_of_the_platforms_machine_gets_nothing(ctx: Any, webhook: Webhook) -> None:
    services: DefaultServices = ctx.services
    services.egress = Egress()
    for url in (webhook.url, webhook.url.replace("http:", "https:")):
        said = await send(services, read({"type": "webhook", "url": url}), message())
        assert said is not None and said.startswith("not sent: ")
    assert webhook.requests == []


# E-mail


def mail_server(ctx: Any, port: int, **settings: Any) -> None:
    ctx.services.section = {
        "email": {
            "host": "127.0.0.1",
            "port": port,
            "sender": "shoal@example.org",
            "security": "none",
            **settings,
        }
    }


async def test_e_mail_is_readable_and_has_the_key(ctx: Any, free_port: int) -> None:
    from aiosmtpd.controller import Controller

    received: list[Any] = []

    class Inbox:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            received.append((envelope, message_from_bytes(envelope.content, policy=policy.default)))
            return "250 OK"

    server = Controller(Inbox(), hostname="127.0.0.1", port=free_port)
    server.start()
    try:
        mail_server(ctx, free_port)
        hostile = message(title="Ünusual\r\nBcc: all@example.org", body="one\r\n.\r\nRCPT TO:<x>")
        assert await send(ctx.services, read(channel("email")), hostile) is None
    finally:
        server.stop()
    ((envelope, mail),) = received
    assert envelope.rcpt_tos == channel("email")["to"]
    assert mail["Subject"] == "Ünusual Bcc: all@example.org" and mail["Bcc"] is None
    assert mail["X-Shoal-Notice"] == message().id
    text = mail.get_body(("plain",)).get_content()
    assert text.split() == ["one", ".", "RCPT", "TO:<x>"]


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_mail_servers_certificate_is_checked(
    ctx: Any, free_port: int, tmp_path: Path, monkeypatch: Any, is_trusted: bool
) -> None:
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Sink

    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (authority if is_trusted else other).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = Controller(
        Sink(), hostname="127.0.0.1", port=free_port, tls_context=context, require_starttls=True
    )
    server.start()
    try:
        mail_server(ctx, free_port, security="starttls")
        told = await send(ctx.services, read(channel("email")), message())
    finally:
        server.stop()
    assert told == (None if is_trusted else "the mail server cannot be reached")


@pytest.mark.parametrize(
    ("answer", "said"),
    [("550 no such user here", "status 550"), ("451 /etc/shadow", "status 451")],
)
async def test_a_mail_servers_words_are_not_passed_on(
    ctx: Any, free_port: int, answer: str, said: str
) -> None:
    from aiosmtpd.controller import Controller

    class Full:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return answer

    server = Controller(Full(), hostname="127.0.0.1", port=free_port)
    server.start()
    try:
        mail_server(ctx, free_port)
        told = await send(ctx.services, read(channel("email")), message())
    finally:
        server.stop()
    assert told == f"the mail server answered with {said}"


async def test_a_mail_server_that_is_down_is_told(ctx: Any, free_port: int) -> None:
    mail_server(ctx, free_port)
    told = await send(ctx.services, read(channel("email")), message())
    assert told == "the mail server cannot be reached"


async def test_without_a_mail_server_no_mail_is_sent(ctx: Any) -> None:
    told = await send(ctx.services, read(channel("email")), message())
    assert told == "the platform is not set up to send e-mail"


def test_every_type_can_be_sent() -> None:
    assert {*HOSTS, "webhook", "email"} == set(CHANNELS)
