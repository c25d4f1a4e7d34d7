"""Kafka and Redpanda: flows from a topic, one log a partition, and events to a topic. Needs the extra `kafka`."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final
from urllib.parse import parse_qs, urlsplit

import msgspec
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from wirebert.errors import ConfigError
from wirebert.inference.line_source import StreamedLines

_HELD_BYTES: Final = 32 << 20
"""Of messages of a partition that are not scored; then it is paused."""
_FLUSH_S: Final = 30.0
_WAIT_S: Final = 10.0
_OWN = {"group"}


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaPlace:
    """A topic, and how to reach it."""

    brokers: str
    topic: str
    group: str = "wirebert"
    """Consumers of one group share the partitions."""
    settings: tuple[tuple[str, str], ...] = ()
    """Settings of librdkafka, such as security.protocol."""

    @classmethod
    def parse(cls, address: str) -> Self:
        """The place of `kafka://BROKERS/TOPIC?group=...`; other parameters are settings of librdkafka.

        Raises:
            ConfigError: it is none.

        >>> KafkaPlace.parse("kafka://a:9092,b/flows?group=g&security.protocol=ssl").settings
        (('security.protocol', 'ssl'),)
        """
        parts = urlsplit(address)
        topic = parts.path.strip("/")
        given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.scheme != "kafka" or not parts.netloc or not topic or "/" in topic:
            raise ConfigError(f"{address}: expected kafka://BROKERS/TOPIC?group=NAME; correct it")
        settings = tuple((name, value) for name, value in given.items() if name not in _OWN)
        return cls(brokers=parts.netloc, topic=topic, group=given.get("group", "wirebert"), settings=settings)

    def config(self, **others: object) -> dict[str, Any]:
        """Settings of a client of librdkafka."""
        return {"bootstrap.servers": self.brokers, "log_level": 2, **others, **dict(self.settings)}


@final
class KafkaSink:
    """Delivers events to a topic; the id of an event is the key of its message."""

    def __init__(self, place: KafkaPlace) -> None:
        config = place.config(**{"enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"})
        config.setdefault("message.timeout.ms", int(_FLUSH_S * 1000))
        self._place, self._producer = place, _client(Producer, config, place)
        self._failed: list[str] = []

    def write(self, events: Sequence[bytes]) -> None:
        """Deliver the events.

        Raises:
            OSError: a broker did not take all of them.
        """
        self._failed.clear()
        for event in events:
            while True:
                try:
                    self._producer.produce(
                        self._place.topic, event, key=_event_id(event), on_delivery=self._note
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
                except KafkaException as error:
                    raise OSError(str(error)) from error
        left = self._producer.flush(_FLUSH_S)
        if left:
            self._producer.purge()
            self._producer.flush(1.0)
        if left or self._failed:
            raise OSError(self._failed[0] if self._failed else f"no answer within {_FLUSH_S:.0f} s")

    def close(self) -> None:
        """Nothing is pending."""

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error.str())


class _Event(msgspec.Struct):
    id: str = ""


class _Envelope(msgspec.Struct):
    event: _Event | str | None = None
    event_id: str = ""


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def _event_id(event: bytes) -> bytes | None:
    """The id by which repeats of an event are dropped."""
    try:
        found = _ENVELOPE.decode(event)
    except msgspec.DecodeError:
        return None
    nested = found.event.id if isinstance(found.event, _Event) else ""
    return (nested or found.event_id).encode() or None


@final
class KafkaTopic:
    """The partitions of a topic that this consumer of the group has.

    Each partition is a log of its own: its flows are counted in its order, and this count is committed with
    the offset. So a flow has the same id whoever scores it, and how often.

    Args:
        saved: `topic[partition]` -> position, as this process saved it.
        opened: called with the lines of a partition that is new here, and its number of flows so far.
        closed: called with the name of a partition that another consumer has from now on.
    """

    def __init__(
        self,
        place: KafkaPlace,
        saved: Mapping[str, Mapping[str, Any]],
        opened: Callable[[StreamedLines, int], None],
        closed: Callable[[str], None],
    ) -> None:
        self._place, self._saved, self._opened, self._closed = place, saved, opened, closed
        config = place.config(
            **{
                "group.id": place.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 65_536,
                "partition.assignment.strategy": "cooperative-sticky",
            }
        )
        self._consumer = _client(Consumer, config, place)
        self._partitions: dict[int, _Partition] = {}
        self._consumer.subscribe([place.topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def poll(self, wait_s: float = 0.0) -> None:
        """Fetch messages for the partitions; those that hold enough are paused."""
        try:
            messages = self._consumer.consume(10_000, wait_s)
        except KafkaException as error:
            raise OSError(str(error)) from error
        for message in messages:
            if message.error() is None and (partition := self._partitions.get(message.partition() or 0)):
                partition.add(message)
        for partition in self._partitions.values():
            partition.pause(self._consumer)

    def commit(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Commit, for each partition, the offset of the next message and the flows before it: those are
        written."""
        offsets = [
            TopicPartition(self._place.topic, number, counts[one.name][0], f"flows={counts[one.name][1]}")
            for number, one in self._partitions.items()
            if one.name in counts and counts[one.name][0] > one.committed
        ]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException:  # another consumer has the partition by now, or no broker answers: later then
            return
        for offset in offsets:
            self._partitions[offset.partition].committed = offset.offset

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in consumer.committed(partitions, timeout=_WAIT_S):
            name = f"{self._place.topic}[{one.partition}]"
            offset, num_flows = one.offset, _flows_in(one.metadata)
            low, high = consumer.get_watermark_offsets(one, timeout=_WAIT_S)
            saved = self._saved.get(name)
            # Our own state may be ahead of the group, if we died between saving and committing.
            if saved is not None and offset <= saved["offset"] <= high:
                offset, num_flows = saved["offset"], saved["num_flows"]
            if offset == OFFSET_INVALID or not low <= offset <= high:
                offset = low
            partition = _Partition(consumer, TopicPartition(one.topic, one.partition), name, offset)
            self._partitions[one.partition] = partition
            self._opened(partition.lines, num_flows)
        consumer.incremental_assign(
            [TopicPartition(p.topic, p.partition, self._partitions[p.partition].fetched) for p in partitions]
        )

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            if (gone := self._partitions.pop(one.partition, None)) is not None:
                self._closed(gone.name)
        consumer.incremental_unassign(partitions)


@final
class _Partition:
    """Messages of one partition, as lines."""

    def __init__(self, consumer: Consumer, place: TopicPartition, name: str, offset: int) -> None:
        self.name, self._consumer, self._place = name, consumer, place
        self.fetched, self.committed = offset, offset
        """Offset of the next message to fetch, and of the next one by the last commit."""
        self._messages = deque[tuple[int, bytes]]()
        self._held_bytes, self._is_paused = 0, False
        self.lines = StreamedLines(name, self._fetch, self._num_behind)
        self.lines.saved_position = {"offset": offset}

    def add(self, message: Message) -> None:
        """Hold a message until it is read."""
        content, offset = message.value() or b"", message.offset() or 0
        if offset < self.fetched:
            return
        self.fetched = offset + 1
        self._messages.append((self.fetched, content))
        self._held_bytes += len(content)

    def pause(self, consumer: Consumer) -> None:
        """Stop fetching while enough is held, and go on when half of it is read."""
        if not self._is_paused and self._held_bytes > _HELD_BYTES:
            consumer.pause([self._place])
            self._is_paused = True
        elif self._is_paused and self._held_bytes < _HELD_BYTES // 2:
            consumer.resume([self._place])
            self._is_paused = False

    def _fetch(self, max_bytes: int) -> bytes:
        """Whole messages, each ending with a line end."""
        taken: list[bytes] = []
        num_bytes = 0
        while self._messages and num_bytes + len(self._messages[0][1]) < max_bytes:
            after, content = self._messages.popleft()
            self._held_bytes -= len(content)
            self.lines.saved_position = {"offset": after}
            if content := content.rstrip(b"\r\n"):
                taken.append(content + b"\n")
                num_bytes += len(content) + 1
        if not taken and self._messages and num_bytes == 0:
            after, content = self._messages.popleft()  # longer than any line may be
            self._held_bytes -= len(content)
            self.lines.saved_position = {"offset": after}
            taken.append(content + b"\n")
        return b"".join(taken)

    def _num_behind(self) -> int:
        """Messages that are in the partition and not read, as the last answer of the broker tells."""
        _, high = self._consumer.get_watermark_offsets(self._place, cached=True)
        fetched = self._messages[0][0] - 1 if self._messages else self.fetched
        return max(0, high - fetched)


def _flows_in(metadata: str | None) -> int:
    """The count of flows that was committed with an offset."""
    number = (metadata or "").removeprefix("flows=")
    return int(number) if number.isascii() and number.isdigit() else 0


def _client[T: (Consumer, Producer)](kind: type[T], config: Mapping[str, Any], place: KafkaPlace) -> T:
    try:
        return kind(dict(config))
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigError(
            f"kafka://{place.brokers}/{place.topic}: librdkafka does not take these settings ({error}); "
            "correct them"
        ) from error
