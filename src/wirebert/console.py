"""Standard output and standard error that are safe for untrusted text: terminals display it and execute none
of it."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPE_WIDTH: Final = 110
"""Width in columns where the output is not a terminal and COLUMNS is not set; the default of rich is 80."""
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


class SafeConsole(Console):
    """Standard output or standard error with control characters escaped."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        has_no_width = not stream.isatty() and "COLUMNS" not in os.environ
        super().__init__(width=PIPE_WIDTH if has_no_width else None, stderr=stderr)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape the text; control segments come from rich itself and stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_control_chars(segment.text))

    def on_broken_pipe(self) -> None:
        """Raise to the command line, which handles a closed pipe; rich would end the process."""
        raise BrokenPipeError
