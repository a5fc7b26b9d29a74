"""Messages of Kafka that are not taken, as dead letters, and their replay."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from itertools import islice
from typing import Any

from shoal.contract.errors import Invalid, QuotaExceeded
from shoal.contract.events import MAX_EVENT_BYTES, Event
from shoal.contract.usage import Usage
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, translate_errors

from .codec import encode_event
from .dead_letters import add_dead_letter, delete_dead_letters, find_dead_letters
from .event_store import EventStore
from .kafka_messages import Message, read_message
from .kafka_settings import KafkaSource
from .tombstones import find_retracted

TYPE = "kafka.message"
"""The type of the event that keeps a message."""
SHOWN_BYTES = 10_000
"""What is kept of a message that is larger than any event."""
MAX_REASONS = 10


def keep_message(message: Message) -> Event:
    """An event that has a message. One that is larger than any event is cut."""
    value = message.value or b""
    parts = [value, message.key or b"", *message.headers.values()]
    data: dict[str, Any] = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "bytes": len(value),
    }
    if sum(map(len, parts)) > MAX_EVENT_BYTES:
        data["value"] = value[:SHOWN_BYTES].decode("utf-8", "replace")
    else:
        data["value"], data["key"] = _to_json(message.value), _to_json(message.key)
        data["headers"] = {name: _to_json(each) for name, each in message.headers.items()}
    return Event(id=message.place, source=f"kafka/{message.topic}", type=TYPE, data=data)


def kept_message(event: Event) -> Message:
    """The message that an event has.

    Raises:
        ValueError: It was too large to be kept whole.
    """
    data = event.data
    if "headers" not in data:
        raise ValueError(f"{data['bytes']:,} bytes are more than an event may have")
    headers = {name: _from_json(each) or b"" for name, each in data["headers"].items()}
    key, value = _from_json(data["key"]), _from_json(data["value"])
    return Message(data["topic"], data["partition"], data["offset"], key, value, headers)


def _to_json(value: bytes | None) -> str | dict[str, str] | None:
    """Text as it is, other bytes as `{"base64": …}`."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value or b"").decode()}


def _from_json(value: str | dict[str, str] | None) -> bytes | None:
    if isinstance(value, dict):
        return b64decode(value["base64"])
    return None if value is None else value.encode()


async def add_message(
    config: StoreConfig, source: KafkaSource, tenant: str, message: Message, reason: str
) -> None:
    """Keep a message that cannot be taken among the tenant's dead letters."""
    encoded = keep_message(message).model_dump_json().encode()
    entry = (b"0-0", {b"t": TYPE.encode(), b"e": encoded})
    with translate_errors():
        events = async_redis(config.events)
        await add_dead_letter(events, tenant, source.events_group, entry, reason, 1)


async def replay_messages(
    config: StoreConfig, source: KafkaSource, tenant: str, ids: Sequence[str], usage: Usage
) -> int:
    """Take messages among a tenant's dead letters, as the source is configured now.

    Those that are still no events remain, and those for which there is no quota.

    Returns:
        How many were taken.

    Raises:
        Invalid: None of them is an event: why.
        NotFound: One of `ids` is no dead letter of the source.
        QuotaExceeded: The tenant's quota does not allow one event.
    """
    events, silent, faults = dict[str, Event](), list[str](), list[str]()
    with translate_errors():
        client = async_redis(config.events)
        for letter in await find_dead_letters(client, tenant, source.events_group, ids):
            try:
                event = read_message(source, kept_message(letter.event))
                if event is None:
                    silent.append(letter.id)
                else:
                    encode_event(event)
                    events[letter.id] = event
            except Exception as error:  # whatever a message holds
                faults.append(f"{letter.id}: {error}")
        if faults and not events:
            found = [{"location": "ids", "message": fault} for fault in faults[:MAX_REASONS]]
            raise Invalid(f"these messages are still no events: {faults[0]}", errors=found)
        usage.require("events", min(len(events), 1))
        allowed, _ = count_allowed(usage, len(events))
        taken = dict(islice(events.items(), allowed))
        await append_accepted(config, tenant, list(taken.values()), usage)
        await delete_dead_letters(client, tenant, [*taken, *silent])
    return len(taken)


async def append_accepted(
    config: StoreConfig, tenant: str, events: Sequence[Event], usage: Usage
) -> None:
    """Append events that were not retracted, and count them."""
    retracted = set(await find_retracted(config, tenant, events))
    accepted = [event for n, event in enumerate(events) if n not in retracted]
    await EventStore(config, tenant).append(accepted)
    usage.add("events", len(accepted))


def count_allowed(usage: Usage, events: int) -> tuple[int, str]:
    """How many of some events the tenant's quota allows, and why not more."""
    allowed, refused, reason = 0, events + 1, ""
    while refused - allowed > 1:
        middle = (allowed + refused) // 2
        try:
            usage.require("events", middle)
            allowed = middle
        except QuotaExceeded as error:
            refused, reason = middle, str(error)
    return allowed, reason
