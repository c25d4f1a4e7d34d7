"""Heads that h11 reads leniently. The reference is RFC 9112: sections 2.2, 5.2 and 6.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.service.request_heads import MAX_HEAD_BYTES, HeadGuard

HEAD = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (HEAD + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nab", "folded"),
        (HEAD + b"X-A: b\r\n\tc\r\n\r\n", "folded"),
        (HEAD.replace(b"\r\n", b"\n") + b"\n", "bare"),
        (HEAD + b"X: a\rb\r\n\r\n", "bare"),
        (HEAD + b"X: a\nContent-Length: 3\r\n\r\n", "bare"),
        (HEAD + b"Content-Length: 2, 2\r\n\r\nab", "whole number"),
        (HEAD + b"Content-Length: +2\r\n\r\nab", "whole number"),
        (HEAD + b"Content-Length: 0x2\r\n\r\nab", "whole number"),
        (HEAD + b"Content-Length:\r\n\r\nab", "whole number"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", "several"),
        (HEAD + b"content-length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "several"),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, "at most"),
    ],
)
def test_a_head_of_two_meanings_is_refused_however_it_comes(data: bytes, found: str):
    fault = HeadGuard().fault(data)
    assert fault is not None
    assert found in fault
    guard = HeadGuard()
    faults = [guard.fault(data[at : at + 1]) for at in range(len(data))]
    assert any(faults)


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=4),
    st.lists(st.integers(1, 60), min_size=1, max_size=20),
)
def test_sound_requests_one_after_the_other_are_accepted_however_they_are_cut(
    bodies: list[bytes], cuts: list[int]
):
    data = b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies)
    guard, at = HeadGuard(), 0
    while at < len(data):
        cut = cuts[at % len(cuts)]
        assert guard.fault(data[at : at + cut]) is None
        at += cut


@given(st.integers(0, 30), st.integers(0, 10))
def test_a_second_head_behind_a_body_is_checked_too(num_bytes: int, cut: int):
    guard = HeadGuard()
    first = HEAD + b"Content-Length: %d\r\n\r\n" % num_bytes + b"\n" * num_bytes
    data = first + HEAD + b"X: a\r\n b\r\n\r\n"
    assert guard.fault(data[: len(first) + cut]) is None
    assert guard.fault(data[len(first) + cut :]) is not None


def test_a_body_of_chunks_is_left_to_h11():
    guard = HeadGuard()
    assert guard.fault(HEAD + b"Transfer-Encoding: chunked\r\n\r\n") is None
    assert guard.is_chunked
    assert guard.fault(b"5\r\n\n\n\n\n\n\r\n0\r\n\r\n") is None
