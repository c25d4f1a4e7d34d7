"""Standard output and standard error, on which text of others can do nothing: a terminal shows it and obeys none of it."""

import os
import re
import sys
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPE_WIDTH: Final = 110
"""Columns of text where the output is no terminal and nothing says how wide it is; rich would take 80."""
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, by which a terminal is told to move, to colour or to answer, and those that turn text around."""


def escape_control_chars(text: str) -> str:
    """The text with what a terminal would obey written out; line ends and tabs stay.

    >>> print(escape_control_chars("a\\x1b[2Jb"))
    a\\x1b[2Jb
    """
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def warn(sentence: str) -> None:
    """Say one sentence on standard error."""
    print(escape_control_chars(f"wirebert: {sentence}"), file=sys.stderr)


class SafeConsole(Console):
    """Standard output, or standard error."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        is_open = not stream.isatty() and "COLUMNS" not in os.environ
        super().__init__(width=PIPE_WIDTH if is_open else None, stderr=stderr)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed; what rich itself tells the terminal is not text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_control_chars(segment.text))

    def on_broken_pipe(self) -> None:
        """Leave it to the command line what it means that the reader has gone; rich would end the process."""
        raise BrokenPipeError
