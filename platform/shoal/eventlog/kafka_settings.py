"""Kafka's topics as sources of the event log, and as its sinks."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from shoal.contract.names import Identifier

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Topic = Annotated[str, StringConstraints(pattern=r"^\^?[A-Za-z0-9._*+-]{1,249}$")]
MAX_TOPICS, MAX_TENANTS, MAX_TYPES = 100, 10_000, 100


class KafkaConnection(BaseModel):
    """How brokers are reached.

    `servers` is `kafka://host:9092,host:9092`, or `kafkas://…` with TLS, which trusts
    the file `ca`, or else the system's authorities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    """Names the source or sink in groups, logs and metrics."""
    servers: str
    ca: str = ""
    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    options: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Other settings of librdkafka."""

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        parts = urlsplit(self.servers)
        if parts.scheme not in ("kafka", "kafkas") or not parts.netloc or "@" in parts.netloc:
            raise ValueError(
                "servers: expected kafka://host:port or kafkas://…, without a password"
            )
        if parts.path.strip("/") or parts.query:
            raise ValueError("servers: only hosts and ports; topics are a setting of their own")
        if bool(self.mechanism) != bool(self.username):
            raise ValueError("mechanism and username are given both or neither")
        return self

    @property
    def events_group(self) -> str:
        """The group in the log that has a sink's positions, and the dead letters."""
        return f"kafka.{self.name}"

    @property
    def brokers(self) -> str:
        return urlsplit(self.servers).netloc

    def settings(self) -> dict[str, Any]:
        """What librdkafka's clients take."""
        protocol = "SASL_" if self.mechanism else ""
        protocol += "SSL" if self.servers.startswith("kafkas://") else "PLAINTEXT"
        found: dict[str, Any] = {"bootstrap.servers": self.brokers, "security.protocol": protocol}
        if self.ca:
            found["ssl.ca.location"] = self.ca
        if self.mechanism:
            found["sasl.mechanism"] = self.mechanism
            found["sasl.username"] = self.username
            found["sasl.password"] = self.password.get_secret_value()
        return found | self.options


class KafkaSource(KafkaConnection):
    """Topics that are taken into the event log."""

    topics: tuple[Topic, ...] = Field(min_length=1, max_length=MAX_TOPICS)
    """Names; one that begins with `^` is a pattern."""
    group: str = Field("", max_length=249)
    """The consumer group; by default `shoal.<name>`."""
    tenant: str
    """Where the tenant is: `key`, `header:NAME`, or `topic:orders.{tenant}.v1`."""
    tenants: frozenset[str] = Field(min_length=1, max_length=MAX_TENANTS)
    """Whose events the topics may have; messages of others are refused."""
    format: Literal["cloudevents", "json", "debezium"] = "cloudevents"
    type: Identifier | None = None
    """The type of events of the format `json`."""
    fields: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Of `json`: which fields are an event's `id`, `time` and `subject`. Of `debezium`:
    which columns are an item's `id`, `title`, `text`, …; by default those of that name.
    """

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format == "json" and not self.type:
            raise ValueError("type: the format json needs the type of its events")
        if self.format == "json" and (unknown := self.fields.keys() - {"id", "time", "subject"}):
            raise ValueError(f"fields: {min(unknown)!r} is not id, time or subject")
        rule, _, rest = self.tenant.partition(":")
        valid = {"key": not rest, "header": bool(rest), "topic": rest.count("{tenant}") == 1}
        if not valid.get(rule, False):
            raise ValueError("tenant: expected key, header:NAME or topic:before{tenant}after")
        return self

    def tenant_of(self, topic: str, key: bytes | None, headers: Mapping[str, bytes]) -> str | None:
        """The tenant that a message says it is of; None where it says none."""
        rule, _, rest = self.tenant.partition(":")
        if rule == "topic":
            before, _, after = map(re.escape, rest.partition("{tenant}"))
            match = re.fullmatch(f"{before}(.+){after}", topic)
            return match[1] if match else None
        raw = key if rule == "key" else headers.get(rest)
        return raw.decode("utf-8", "replace") if raw else None


class KafkaSink(KafkaConnection):
    """A topic that has the events of some types, in each tenant's order."""

    topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    types: tuple[Identifier, ...] = Field(min_length=1, max_length=MAX_TYPES)
    """`item.*` is all that begin with `item.`."""
    mode: Literal["structured", "binary"] = "structured"
    """How CloudEvents are written."""


def check_loops(sources: tuple[KafkaSource, ...], sinks: tuple[KafkaSink, ...]) -> None:
    """Raise ValueError where events would come back, or a name is given twice."""
    names = [each.name for each in (*sources, *sinks)]
    if len(set(names)) < len(names):
        raise ValueError("two of the sources and sinks have the same name")
    for sink in sinks:
        for source in sources:
            shared = set(source.brokers.split(",")) & set(sink.brokers.split(","))
            takes = any(
                re.fullmatch(topic[1:] if topic[0] == "^" else re.escape(topic), sink.topic)
                for topic in source.topics
            )
            if shared and takes:
                raise ValueError(
                    f"sink {sink.name} writes the topic {sink.topic}, which source {source.name}"
                    " takes: its events would go round for ever"
                )
