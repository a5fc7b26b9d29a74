"""Kafka's messages as events, and back.

CloudEvents as the protocol binding for Kafka has them (version 1.0.2): structured,
with the content type `application/cloudevents+json`, or binary, in headers `ce_…`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from shoal.contract.events import Event

from .kafka_settings import KafkaSource

STRUCTURED = "application/cloudevents+json"
CHANGES = {"c": "item.created", "r": "item.created", "u": "item.updated", "d": "item.deleted"}
"""Debezium's operations: create, read (a snapshot), update and delete."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    @property
    def place(self) -> str:
        """Where it is: an id that it has however often it is delivered."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def read_message(source: KafkaSource, message: Message) -> Event | None:
    """The event of a message; None for one that says nothing, such as a tombstone.

    Raises:
        ValueError: Why it is no event.
    """
    if message.value is None and "ce_id" not in message.headers:
        return None
    try:
        if source.format == "debezium":
            return _read_change(source, message)
        if source.format == "json":
            return _read_json(source, message)
        return _read_cloudevent(message)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}") from None
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None


def _read_cloudevent(message: Message) -> Event:
    content_type = _text(message.headers.get("content-type"))
    if content_type.startswith(STRUCTURED):
        return Event.model_validate(_object(message.value))
    attributes = {
        name[3:]: _text(value) for name, value in message.headers.items() if name.startswith("ce_")
    }
    if not attributes:
        raise ValueError(f"neither the content type {STRUCTURED} nor a header ce_id")
    if content_type and not content_type.partition(";")[0].endswith("json"):
        raise ValueError(f"its data are {content_type[:100]}, not JSON")
    data = orjson.loads(message.value) if message.value else None
    missing = {"id", "source", "type", "specversion"} - attributes.keys()
    if missing:
        raise ValueError(f"the header ce_{min(missing)} is missing")
    return Event.model_validate({**attributes, "data": data})


def _read_json(source: KafkaSource, message: Message) -> Event:
    found = _object(message.value)
    given: dict[str, Any] = {"id": message.place, "source": f"kafka/{message.topic}"}
    for name, column in source.fields.items():
        value = found.get(column)
        if value is None:
            raise ValueError(f"the field {column}, which is the event's {name}, is missing")
        given[name] = _time(value) if name == "time" else str(value)
    return Event(type=source.type or "", data=found, **given)


def _read_change(source: KafkaSource, message: Message) -> Event:
    envelope = _object(message.value)
    change = envelope.get("payload", envelope)
    kind = CHANGES.get(change.get("op", "")) if isinstance(change, dict) else None
    if kind is None:
        raise ValueError("not a change event of Debezium: op is not c, r, u or d")
    row = change.get("before" if kind == "item.deleted" else "after")
    if not isinstance(row, dict):
        raise ValueError("the change event has no row")
    item = {**row, **{name: row.get(column) for name, column in source.fields.items()}}
    if item.get("id") is None:
        raise ValueError("the row has no id: say in fields which column it is")
    item["id"] = str(item["id"])
    at = _time(change.get("ts_ms") or 0)
    item["updated_at"] = at if item.get("updated_at") is None else _time(item["updated_at"])
    origin = f"debezium/{message.topic}"
    return Event(id=message.place, source=origin, type=kind, subject=item["id"], time=at, data=item)


def _object(value: bytes | None) -> dict[str, Any]:
    found = orjson.loads(value or b"")
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _text(value: bytes | None) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        raise ValueError("a header is not UTF-8") from None


def _time(value: Any) -> Any:
    """A time: RFC 3339, or seconds, milliseconds or microseconds since 1970."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if abs(value) / unit < 10**10:  # until the year 2286
            return datetime.fromtimestamp(value / unit, UTC)
    raise ValueError(f"{value} is no time")


def write_message(event: Event, mode: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The value and the headers of an event as CloudEvents have it."""
    if mode == "structured":
        return event.model_dump_json(exclude_none=True).encode(), [
            ("content-type", f"{STRUCTURED}; charset=UTF-8".encode())
        ]
    attributes = event.model_dump(mode="json", exclude={"data"}, exclude_none=True)
    headers = [(f"ce_{name}", str(value).encode()) for name, value in attributes.items()]
    return orjson.dumps(event.data), [("content-type", b"application/json"), *headers]
