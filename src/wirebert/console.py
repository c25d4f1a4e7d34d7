"""Standard output and standard error that are safe for untrusted text: terminals display it and execute none
of it."""

import os
import sys
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from wirebert.untrusted_text import escape_control_chars

PIPE_WIDTH: Final = 110
"""Width in columns where the output is not a terminal and COLUMNS is not set; the default of rich is 80."""


def say(console: Console, text: str) -> None:
    """Print text as it is: without markup and colours, and with lines as long as they are."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


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
