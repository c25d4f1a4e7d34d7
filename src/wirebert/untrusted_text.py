"""Text from outside, safe to print: terminals display it and execute none of it."""

import re
import sys
from pathlib import Path
from typing import Final

_COMMANDS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
"""Control characters, which move the cursor, set colours or trigger replies; bidirectional controls; and what
no XML document may contain."""


def escape_control_chars(text: str) -> str:
    """The text with control characters escaped, except line ends and tabs.

    >>> print(escape_control_chars("a\\x1b[2Jb"))
    a\\x1b[2Jb
    """
    return _COMMANDS.sub(lambda match: ascii(match[0])[1:-1], text)


def printable_name(path: str | Path) -> str:
    """The path as text that every encoding holds: a byte that is no UTF-8 is written as an escape.

    >>> printable_name("caf\\udce9.csv")
    'caf\\\\udce9.csv'
    """
    return str(path).encode("utf-8", "backslashreplace").decode()


def warn(sentence: str) -> None:
    """Print one sentence to standard error."""
    print(escape_control_chars(f"wirebert: {sentence}"), file=sys.stderr)
