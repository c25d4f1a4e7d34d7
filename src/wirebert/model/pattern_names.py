"""Names of attention patterns, checked without PyTorch; `wirebert.model.patterns` computes them."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from wirebert.errors import ConfigError

FULL: Final = "full"
COLUMNS: Final = "columns"

IMPORTED: Final[dict[str, Callable[..., Any]]] = {}
"""Functions of the user, by the name that the settings gave them."""


def window_reach(name: str) -> int | None:
    """The reach in `window:REACH`; None where the name is not of that form with a positive number."""
    kind, _, reach = name.partition(":")
    return int(reach) if kind == "window" and reach.isdecimal() and int(reach) > 0 else None


def import_pattern(name: str) -> None:
    """As `check_pattern`; a function given as `package.module:name` is imported, for a user's own settings.

    Raises:
        ConfigError: there is no such pattern.
    """
    module, _, function = name.partition(":")
    if function and module != "window":
        try:
            found = getattr(import_module(module), function, None)
        except ImportError:
            found = None
        if callable(found):
            IMPORTED[name] = found
    check_pattern(name)


def check_pattern(name: str) -> None:
    """Refuse a name that is not `full`, `columns`, `window:REACH` or a function that has been imported.

    Nothing is imported here: the name may come from a model file, which must not run code.

    Raises:
        ConfigError: there is no such pattern.
    """
    if name not in (FULL, COLUMNS) and window_reach(name) is None and name not in IMPORTED:
        raise ConfigError(
            "model.attention_pattern must be full, columns, window:REACH, or a function package.module:name "
            f"that can be imported (for a saved model: `import_pattern` it before), got {name!r}"
        )
