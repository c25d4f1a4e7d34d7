"""Lines that come in pieces are whole lines, in order, and none of them is endless."""

import os
import random

import pytest

from wirebert.inference.line_source import StreamedLines, piped_lines


def streamed(pieces: list[bytes | None]) -> StreamedLines:
    return StreamedLines("x", lambda _: pieces.pop(0) if pieces else b"", lambda: len(pieces))


def read_all(lines: StreamedLines, max_bytes: int = 1000) -> bytes:
    found = b""
    while not lines.is_over:
        found += lines.read(max_bytes)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_however_bytes_are_cut_the_lines_are_the_same(seed: int):
    chance = random.Random(seed)
    content = b"".join(b"%d\n" % chance.randint(0, 10**6) for _ in range(100)) + b"without an end"
    cuts = sorted(chance.sample(range(len(content)), 20))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    lines = streamed([*pieces, None])
    assert read_all(lines) == content + b"\n"
    assert (lines.offset, lines.num_lines) == (len(content) + 1, 101)
    assert lines.head(10) == content[: content[:10].rfind(b"\n") + 1]


def test_a_line_that_is_too_long_is_set_aside_and_the_next_one_is_read():
    lines = streamed([b"a\n" + b"x" * 60, b"x" * 60, b"x" * 30 + b"\nb\n", None])
    assert read_all(lines, 50) == b"a\nb\n"
    assert [(row.line, row.text[:3]) for row in lines.rejected] == [(2, "xxx")]
    assert "found one of 151" in lines.rejected[0].reason


def test_a_pipe_is_read_as_it_comes_and_its_end_is_the_end():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        lines = piped_lines(pipe)
        assert lines.read(1000) == b""
        os.write(writer, b"one\ntw")
        assert lines.num_behind() == 1
        assert lines.read(1000) == b"one\n"
        os.write(writer, b"o")
        os.close(writer)
        assert read_all(lines) == b"two\n"
