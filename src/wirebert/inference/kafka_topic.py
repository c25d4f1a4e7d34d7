"""`KafkaTopic`: flows from a topic of Kafka or Redpanda, one log a partition. Needs the extra `kafka`."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from wirebert.alerts.kafka import KafkaPlace, open_client
from wirebert.inference.line_source import StreamedLines

_HELD_BYTES: Final = 32 << 20
"""Of messages of a partition that are not scored; then it is paused."""
_WAIT_S: Final = 10.0


@final
class KafkaTopic:
    """The partitions of a topic that this consumer of the group has.

    Each partition is a log of its own: its flows are counted in its order, and this count is committed with
    the offset. So a flow has the same id whoever scores it, and how often.

    Args:
        saved: `topic[partition]` -> position, as this process saved it, with the number of flows before it.
        opened: called with the lines of a partition that is new here, its number of flows so far, and the
            name of that count.
        closed: called with the name of a partition that another consumer has from now on.
    """

    def __init__(
        self,
        place: KafkaPlace,
        saved: Mapping[str, Mapping[str, Any]],
        opened: Callable[[StreamedLines, int, str], None],
        closed: Callable[[str], None],
    ) -> None:
        self._place, self._saved, self._opened, self._closed = place, saved, opened, closed
        config: dict[str, object] = {
            "group.id": place.group,
            "session.timeout.ms": 10_000,  # so long after a kill the partitions are without a consumer
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 65_536,
            "partition.assignment.strategy": "cooperative-sticky",
        }
        self._consumer = open_client(Consumer, place, **config)
        self._partitions: dict[int, _Partition] = {}
        self._consumer.subscribe(
            [place.topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )

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
            TopicPartition(
                self._place.topic, number, counts[one.name][0], f"{counts[one.name][1]}@{one.base}"
            )
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
            low, high = consumer.get_watermark_offsets(one, timeout=_WAIT_S)
            offset, num_flows, base = one.offset, *_counted(one.metadata)
            saved = self._saved.get(name)
            # Our own state may be ahead of the group, if we died between saving and committing.
            if saved is not None and offset <= saved["offset"] <= high:
                offset, num_flows, base = saved["offset"], saved["num_flows"], saved["base"]
            if not low <= offset <= high:  # nothing is committed, or it is gone
                offset = low
            if base < 0:
                base, num_flows = offset, 0
            partition = _Partition(consumer, TopicPartition(one.topic, one.partition), name, offset, base)
            self._partitions[one.partition] = partition
            self._opened(partition.lines, num_flows, f"{name}@{base}")
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

    def __init__(self, consumer: Consumer, place: TopicPartition, name: str, offset: int, base: int) -> None:
        self.name, self._consumer, self._place, self.base = name, consumer, place, base
        self.fetched, self.committed = offset, offset
        """Offset of the next message to fetch, and of the next one by the last commit."""
        self._messages = deque[tuple[int, bytes]]()
        self._held_bytes, self._is_paused = 0, False
        self.lines = StreamedLines(name, self._fetch, self._num_behind)
        self.lines.saved_position = {"offset": offset, "base": base}

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
            self.lines.saved_position = {"offset": after, "base": self.base}
            if content := content.rstrip(b"\r\n"):
                taken.append(content + b"\n")
                num_bytes += len(content) + 1
        if not taken and self._messages and num_bytes == 0:
            after, content = self._messages.popleft()  # longer than any line may be
            self._held_bytes -= len(content)
            self.lines.saved_position = {"offset": after, "base": self.base}
            taken.append(content + b"\n")
        return b"".join(taken)

    def _num_behind(self) -> int:
        """Messages that are in the partition and not read, as the last answer of the broker tells."""
        _, high = self._consumer.get_watermark_offsets(self._place, cached=True)
        fetched = self._messages[0][0] - 1 if self._messages else self.fetched
        return max(0, high - fetched)


def _counted(metadata: str | None) -> tuple[int, int]:
    """The number of flows that was committed with an offset, and where counting began; -1: nowhere."""
    number, _, base = (metadata or "").partition("@")
    return (int(number), int(base)) if number.isdecimal() and base.isdecimal() else (0, -1)
