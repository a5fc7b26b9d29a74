"""What is accepted as a source or sink of Kafka, and what librdkafka is told."""

from typing import Any

import pytest
from pydantic import ValidationError

from shoal.eventlog.kafka_settings import KafkaSource
from shoal.runtime.configuration import Config

SOURCE = {
    "name": "crm",
    "servers": "kafkas://a:9093,b:9093",
    "topics": ["orders"],
    "tenant": "key",
    "tenants": ["acme"],
}
SINK = {"name": "out", "servers": "kafkas://b:9093", "topic": "mirror", "types": ["item.*"]}


def test_tls_and_sasl_are_passed_on():
    given = {"ca": "/ca.pem", "mechanism": "SCRAM-SHA-512", "username": "u", "password": "hidden"}
    found = KafkaSource(**SOURCE, **given)
    assert found.settings() == {
        "bootstrap.servers": "a:9093,b:9093",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "hidden",
    }
    assert "hidden" not in repr(found)
    config = Config(sources=[{**SOURCE, **given}], sinks=[SINK])
    assert Config(**config.dump_with_secrets()) == config


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"servers": "kafka://u:p@h:1"}, "without a password"),
        ({"servers": "http://h"}, "expected kafka://"),
        ({"servers": "kafka://h:1/topic"}, "only hosts and ports"),
        ({"tenants": []}, "at least 1"),
        ({"tenant": "value"}, "expected key"),
        ({"tenant": "topic:orders"}, "expected key"),
        ({"format": "json"}, "needs the type"),
        ({"format": "json", "type": "x", "fields": {"name": "n"}}, "not id, time or subject"),
        ({"mechanism": "PLAIN"}, "both or neither"),
        ({"name": "No"}, "pattern"),
        ({"topic": "x"}, "not permitted"),
    ],
)
def test_a_wrong_source_is_refused(changed: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        KafkaSource(**{**SOURCE, **changed})


@pytest.mark.parametrize("topics", [["mirror"], ["orders", "^mir.*"]])
def test_a_sink_must_not_feed_a_source(topics: list[str]):
    with pytest.raises(ValidationError, match="round for ever"):
        Config(sources=[{**SOURCE, "topics": topics}], sinks=[SINK])


def test_names_are_given_once():
    with pytest.raises(ValidationError, match="same name"):
        Config(sources=[SOURCE, SOURCE])
    with pytest.raises(ValidationError, match="same name"):  # their dead letters are kept by it
        Config(sources=[SOURCE], sinks=[SINK | {"name": SOURCE["name"]}])


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("key", "k"),
        ("header:h", "t"),
        ("header:other", None),
        ("topic:a.{tenant}.c", "b"),
        ("topic:{tenant}", "a.b.c"),
        ("topic:x{tenant}", None),
    ],
)
def test_a_tenant_is_where_the_rule_says(rule: str, found: str | None):
    source = KafkaSource(**{**SOURCE, "tenant": rule})
    assert source.tenant_of("a.b.c", b"k", {"h": b"t"}) == found
