"""Lines of a piece of a table: counted, and blank ones left out."""

import re

from wirebert.data.dialect import Dialect
from wirebert.data.grammar import quoted_fields

BLANK_LINE = re.compile(rb"(?:\A|(?<=\n)|(?<=\r)(?!\n))(?:\r\n|\r|\n)")


def without_blanks(text: bytes, dialect: Dialect) -> bytes:
    """The text for Arrow, with tabs in place of blanks that delimit."""
    if dialect.delimiter == " ":
        quoted = quoted_fields(dialect.grammar)
        if quoted is None or (dialect.quote or "").encode() not in text:
            text = re.sub(rb"(?<![^\r\n])[ \t]+", b"", text)
            return re.sub(rb"[ \t]+", b"\t", re.sub(rb"[ \t]+(?=[\r\n]|\Z)", b"", text))
        ends = rb"(?P<end>(?<=[\r\n])[ \t]+|[ \t]+(?=[\r\n]|\Z))"
        pattern = re.compile(b"|".join([quoted.pattern, ends, rb"(?P<gap>[ \t]+)"]), re.DOTALL)
        parts = {"end": b"", "gap": b"\t"}
        return pattern.sub(lambda match: parts.get(match.lastgroup or "", match[0]), b"\n" + text)[1:]
    return text


def without_blanks_before_quotes(text: bytes, dialect: Dialect) -> bytes:
    """The text without blanks between a delimiter and an opening quote, if the dialect has such."""
    if not dialect.blanks_before_quotes or not dialect.quote:
        return text
    gap, mark = re.escape(dialect.delimiter.encode()), re.escape(dialect.quote.encode())
    # An odd number of quotes opens a field; an even number is text (or an empty field).
    opening = rb"(?<=" + gap + rb")[ ]+(?=" + mark + rb"(?:" + mark * 2 + rb")*(?!" + mark + rb"))"
    return re.sub(opening, b"", text)


def count_lines(text: bytes) -> int:
    """Number of lines; the last one may have no line end."""
    if not text:
        return 0
    num_ends = text.count(b"\n")
    if b"\r" in text:
        num_ends += text.count(b"\r") - text.count(b"\r\n")
    return num_ends + (not text.endswith((b"\n", b"\r")))


def count_blank(text: bytes, dialect: Dialect) -> int:
    """Number of empty lines, without those inside quoted values."""
    if not (text.startswith((b"\n", b"\r")) or any(two in text for two in (b"\n\n", b"\n\r", b"\r\r"))):
        return 0
    quoted = quoted_fields(dialect.grammar)
    if quoted is not None and (dialect.quote or "").encode() in text:
        text = quoted.sub(b"x", b"\n" + text)[1:]
    return len(BLANK_LINE.findall(text))
