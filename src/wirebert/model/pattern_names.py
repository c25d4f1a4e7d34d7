"""Names of attention patterns, checked without PyTorch; `wirebert.model.patterns` computes them."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from wirebert.errors import ConfigError

FULL: Final = "full"
COLUMNS: Final = "columns"

IMPORTED: Final[dict[str, Callable[..., Any]]] = {}
"""The user's pattern functions, by their name in the settings."""


def window_reach(name: str) -> int | None:
    """The reach in `window:REACH`; None if the name is not of this form with a positive number."""
    kind, _, reach = name.partition(":")
    return int(reach) if kind == "window" and reach.isdecimal() and int(reach) > 0 else None


def import_pattern(name: str) -> None:
    """Import the pattern function if `name` is `package.module:function`, then call `check_pattern`.

    Only for names from the user's own settings: importing runs code.

    Raises:
        ConfigError: there is no such pattern.
    """
    module, _, function = name.partition(":")
    if function and module != "window":
        try:
            pattern = getattr(import_module(module), function, None)
        except ImportError:
            pattern = None
        if callable(pattern):
            IMPORTED[name] = pattern
    check_pattern(name)


def check_pattern(name: str) -> None:
    """Accept only `full`, `columns`, `window:REACH` and imported functions.

    Nothing is imported here: the name may come from a model file, which must not run code.

    Raises:
        ConfigError: there is no such pattern.
    """
    if name not in (FULL, COLUMNS) and window_reach(name) is None and name not in IMPORTED:
        raise ConfigError(
            "model.attention_pattern must be full, columns, window:REACH, or a function package.module:name "
            f"that can be imported (for a saved model: `import_pattern` it before), got {name!r}"
        )
