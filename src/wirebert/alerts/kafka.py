"""Kafka and Redpanda: where a topic is, and a sink for events. Needs the extra `kafka`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final
from urllib.parse import parse_qs, urlsplit

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from wirebert.errors import ConfigError

Client = TypeVar("Client", Consumer, Producer)
_FLUSH_S: Final = 30.0
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
    def parse(cls, address: str) -> "KafkaPlace":
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


def open_client(kind: type[Client], place: KafkaPlace, **config: object) -> Client:
    """A client of librdkafka.

    Raises:
        ConfigError: it does not take the settings.
    """
    try:
        return kind({"bootstrap.servers": place.brokers, "log_level": 2, **config, **dict(place.settings)})
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigError(
            f"kafka://{place.brokers}/{place.topic}: librdkafka does not take these settings ({error}); "
            "correct them"
        ) from error


@final
class KafkaSink:
    """Delivers events to a topic; the id of an event is the key of its message."""

    def __init__(self, place: KafkaPlace) -> None:
        config = {"enable.idempotence": True, "linger.ms": 20, "message.timeout.ms": int(_FLUSH_S * 1000)}
        self._place, self._producer = place, open_client(Producer, place, **config)
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

    def confirm(self) -> None:
        """Nothing: `write` returns when brokers have everything."""

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
