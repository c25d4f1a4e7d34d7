"""Messages read back by a parser written from the grammar of RFC 5424, and sockets that count octets."""

import re
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.alerts.syslog import SyslogSettings, SyslogSink, format_message
from wirebert.errors import ConfigError

HEADER = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) "
    rb"([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)
BOM = b"\xef\xbb\xbf"
SETTINGS = SyslogSettings(host="127.0.0.1")


def parse(message: bytes) -> tuple[tuple[bytes, ...], str]:
    """Header and text; there is no structured data."""
    head = HEADER.match(message)
    assert head is not None, message
    rest = message[head.end() :]
    assert rest.startswith(b"- " + BOM)
    return head.groups(), rest[2 + len(BOM) :].decode()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts, texts)
def test_a_message_is_read_back_as_it_was(text: str, name: str):
    message = format_message(text.encode(), SETTINGS, name, datetime(2026, 3, 1, tzinfo=UTC))
    head, found = parse(message)
    assert (int(head[0]), head[1]) == (16 * 8 + 4, b"2026-03-01T00:00:00.000000Z")
    assert (head[3], head[5], found) == (b"wirebert", b"alert", text)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=700, max_size=2_100))
def test_a_long_text_is_cut_at_a_character(text: str):
    message = format_message(text.encode(), SETTINGS)
    assert len(message) <= 2_048
    found = parse(message)[1]
    assert found == text or (found.endswith(" ...") and text.startswith(found.removesuffix(" ...")))


@pytest.mark.parametrize("values", [{"facility": "kern"}, {"port": 0}, {"timeout_s": 0.0}], ids=str)
def test_a_setting_out_of_range_is_one_sentence(values: dict[str, Any]):
    with pytest.raises(ConfigError, match=rf"syslog {next(iter(values))} must be .*, got"):
        SyslogSettings(host="siem", **values)


def received(listener: socket.socket, count: int, context: ssl.SSLContext | None = None) -> list[bytes]:
    """Messages of one connection, by the octet count before each."""
    plain, _ = listener.accept()
    connection = plain if context is None else context.wrap_socket(plain, server_side=True)
    data, found = b"", list[bytes]()
    with connection:
        while len(found) < count:
            data += connection.recv(65_536)
            while (head := re.match(rb"(\d+) ", data)) and len(data) >= head.end() + int(head[1]):
                end = head.end() + int(head[1])
                found.append(data[head.end() : end])
                data = data[end:]
    return found


def send_to_listener(sink_settings: dict[str, Any], context: ssl.SSLContext | None = None) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(received(listener, 3, context)))
        reader.start()
        sink = SyslogSink(SyslogSettings(port=listener.getsockname()[1], **sink_settings))
        sink.write([b'{"a":1}', b'{"b":"two lines\\n"}'])
        sink.write(["ü".encode()])
        reader.join(10)
        sink.close()
    return [parse(message)[1] for message in found]


def test_tcp_counts_the_octets_of_every_message():
    assert send_to_listener({"host": "127.0.0.1", "transport": "tcp"}) == [
        '{"a":1}',
        '{"b":"two lines\\n"}',
        "ü",
    ]


def test_udp_sends_a_datagram_per_event():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        sink = SyslogSink(SyslogSettings(host="127.0.0.1", port=listener.getsockname()[1]))
        sink.write([b"one", b"two"])
        assert [parse(listener.recv(9_000))[1] for _ in range(2)] == ["one", "two"]
        sink.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost that signs itself, in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split()
    words += ["-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path) + ".crt"]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_tls_checks_the_receiver(certificate: Path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ca = Path(f"{certificate}.crt")
    settings = {"host": "localhost", "transport": "tls", "ca": ca}
    assert send_to_listener(settings, context) == ['{"a":1}', '{"b":"two lines\\n"}', "ü"]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with pytest.raises(ssl.SSLError):
                received(listener, 1, context)

        reader = threading.Thread(target=refuse)
        reader.start()
        sink = SyslogSink(SyslogSettings(host="localhost", port=listener.getsockname()[1], transport="tls"))
        with pytest.raises(OSError, match="certificate"):
            sink.write([b"x"])
        reader.join(10)


def test_a_receiver_that_is_away_is_an_os_error_and_the_next_write_connects_again():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sink = SyslogSink(SyslogSettings(host="127.0.0.1", port=port, transport="tcp"))
    with pytest.raises(OSError, match="refused"):
        sink.write([b"x"])
    with socket.create_server(("127.0.0.1", port)) as listener:
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(received(listener, 1)))
        reader.start()
        sink.write([b"x"])
        reader.join(10)
        sink.close()
    assert [parse(message)[1] for message in found] == ["x"]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_the_end_of_a_connection_is_the_receipt(transport: Any, certificate: Path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("localhost", 0)) as listener:
        read = list[bytes]()

        def accepted() -> socket.socket:
            plain, _ = listener.accept()
            return plain if transport == "tcp" else context.wrap_socket(plain, server_side=True)

        def serve() -> None:
            with accepted() as connection:
                time.sleep(0.3)
                while chunk := connection.recv(100):
                    read.append(chunk)
            with accepted() as connection:
                connection.recv(1)
                time.sleep(0.3)  # hangs up with the rest unread

        thread = threading.Thread(target=serve)
        thread.start()
        port, ca = listener.getsockname()[1], Path(f"{certificate}.crt")
        sink = SyslogSink(SyslogSettings(host="localhost", port=port, transport=transport, ca=ca))
        sink.write([b"x" * 1_000] * 20)
        sink.confirm()
        assert len(b"".join(read)) > 20_000
        sink.write([b"x" * 1_000] * 20)
        with pytest.raises(ConnectionError):
            sink.confirm()
        thread.join(10)


def test_a_receiver_that_never_ends_a_connection_is_believed_in_the_end():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel takes what nobody reads
        port = listener.getsockname()[1]
        sink = SyslogSink(SyslogSettings(host="127.0.0.1", port=port, transport="tcp", timeout_s=0.1))
        for _ in range(3):
            sink.write([b"x"])
            with pytest.raises(TimeoutError):
                sink.confirm()
        sink.write([b"x"])
        sink.confirm()
