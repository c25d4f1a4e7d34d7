import pytest
from starlette.requests import Request

from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES
from wirebert.service.headers import answer_type, content_type, explains, header_fault
from wirebert.service.limits import RequestError


def request(query: str = "", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=UTF-8", JSON),
        ('application/jsonl; charset="utf-8"', JSON_LINES),
        ("text/csv; header=present", CSV),
        ("application/vnd.apache.arrow.stream", ARROW),
    ],
)
def test_bodies_are_told_by_their_content_type(given: str, kind: str):
    assert content_type(request(content_type=given)) == kind


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/json; charset=utf-16"},
        {"content_type": "application/json", "content_encoding": "gzip"},
        {"content_type": "application/json", "content_encoding": "identity, br"},
    ],
)
def test_other_bodies_are_refused(headers: dict[str, str]):
    with pytest.raises(RequestError) as caught:
        content_type(request(**headers))
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/html, application/*;q=0.5", JSON),
        ("application/json;q=0.1, application/x-ndjson", JSON_LINES),
        ("application/vnd.apache.arrow.stream, */*;q=0.1", ARROW),
        ("application/json;q=nonsense, */*;q=0.1", JSON),
        ("text/csv", CSV),
        ("text/*", CSV),
    ],
)
def test_the_answer_is_what_the_client_likes_best_of_what_we_write(accept: str, kind: str):
    assert answer_type(request(accept=accept)) == kind


@pytest.mark.parametrize(
    "accept", ["text/tab-separated-values", "text/plain", "application/json;q=0", "nonsense"]
)
def test_an_answer_that_we_do_not_write_is_refused(accept: str):
    with pytest.raises(RequestError) as caught:
        answer_type(request(accept=accept))
    assert caught.value.status == 406


def test_reasons_are_asked_for_by_one_parameter():
    assert explains(request("explain=alerts"))
    assert not explains(request("explain=none"))
    assert not explains(request())
    for query in ("explain=all", "explain=alerts&explain=alerts", "at=1", "explain=alerts&x=1"):
        with pytest.raises(RequestError):
            explains(request(query))


HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
def test_this_machine_is_known_by_its_names(host: str):
    assert header_fault({"headers": [(b"host", host.encode())]}, HOSTS) is None


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil:80", ""])
def test_a_name_that_someone_else_gave_this_machine_is_refused(host: str):
    assert header_fault({"headers": [(b"host", host.encode())]}, HOSTS)
    assert header_fault({"headers": [(b"host", host.encode())]}, None) is None


@pytest.mark.parametrize(
    "names",
    [
        ("content-length", "transfer-encoding"),
        ("content-length", "content-length"),
        ("host", "host"),
        ("authorization", "authorization"),
        ("content-type", "content-type"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(names: tuple[str, str]):
    assert header_fault({"headers": [(name.encode(), b"1") for name in names]}, None)
