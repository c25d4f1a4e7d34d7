"""A broker of Kafka for tests: librdkafka's mock cluster, in a process of its own that prints its address."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

_BROKER = """
import sys
from confluent_kafka import Producer
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
brokers = producer.list_topics(timeout=10).brokers.values()
print(*(f"{one.host}:{one.port}" for one in brokers), sep=",", flush=True)
sys.stdin.read()
"""


@contextmanager
def running_broker() -> Generator[str]:
    """The address of a broker, which ends with the block."""
    command = [sys.executable, "-c", _BROKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
