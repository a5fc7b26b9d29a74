"""librdkafka's mock cluster: brokers in the process that makes it."""

from confluent_kafka import Consumer, Producer


class MockKafka:
    """Brokers that live as long as this object.

    Attributes:
        address: Of the brokers, as `bootstrap.servers` has it.
    """

    def __init__(self, brokers: int = 1) -> None:
        self._owner = Producer({"test.mock.num.brokers": brokers, "bootstrap.servers": "mock"})
        metadata = self._owner.list_topics(timeout=20)
        self.address = ",".join(f"{b.host}:{b.port}" for b in metadata.brokers.values())
        self.producer = Producer({"bootstrap.servers": self.address})

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        partition: int = -1,
    ) -> None:
        """Produce a message, and wait until a broker has it."""
        given = [(name, text.encode()) for name, text in (headers or {}).items()]
        self.producer.produce(topic, value, key, headers=given, partition=partition)
        self.producer.flush(20)

    def read(self, topic: str, count: int) -> list[tuple[bytes, bytes, dict[str, bytes]]]:
        """The first messages of a topic: their keys, values and headers."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": f"reader-{topic}",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([topic])
        found = []
        try:
            for _ in range(300):
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    headers = dict(message.headers() or [])
                    found.append((message.key(), message.value(), headers))
                if len(found) == count:
                    return found
        finally:
            consumer.close()
        raise AssertionError(f"only {len(found)} of {count} messages")

    def committed(self, group: str, topic: str) -> int:
        """The sum of a group's committed offsets."""
        from confluent_kafka import TopicPartition

        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group})
        try:
            partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            at = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=20)
            return sum(max(each.offset, 0) for each in at)
        finally:
            consumer.close()
