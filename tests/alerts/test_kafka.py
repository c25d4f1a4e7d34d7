import pytest

from wirebert.alerts.kafka import KafkaPlace, KafkaSink
from wirebert.errors import ConfigError


def test_an_address_names_brokers_topic_group_and_settings():
    place = KafkaPlace.parse("kafka://a:9092,b:9092/flows?group=g&security.protocol=ssl")
    assert place == KafkaPlace(
        brokers="a:9092,b:9092", topic="flows", group="g", settings=(("security.protocol", "ssl"),)
    )


@pytest.mark.parametrize("address", ["kafka://a:9092", "kafka:///flows", "kafka://a/b/c", "a:9092/flows"])
def test_other_addresses_are_refused(address: str):
    with pytest.raises(ConfigError, match="expected kafka://BROKERS/TOPIC"):
        KafkaPlace.parse(address)


def test_a_setting_that_librdkafka_does_not_know_is_refused():
    with pytest.raises(ConfigError, match="does not take these settings"):
        KafkaSink(KafkaPlace.parse("kafka://localhost:1/flows?no.such.setting=1"))


def test_events_that_no_broker_takes_are_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wirebert.alerts.kafka._FLUSH_S", 0.5)
    sink = KafkaSink(KafkaPlace.parse("kafka://127.0.0.1:1/flows"))
    with pytest.raises(OSError, match=r"."):
        sink.write([b'{"event_id":"a"}'])
