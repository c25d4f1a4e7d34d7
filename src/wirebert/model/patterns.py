"""Which tokens of a row may see each other: all, neighbours, those of one group of columns, or what a user's
function says.

`[CLS]`, the first token of a row, sees all tokens and is seen by all: it has to sum the row up. Everything
else is up to the pattern, a function of tensors that broadcast:

    def pattern(asks: Tokens, answers: Tokens) -> Bool[Tensor, "..."]: ...

Source: Beltagy, Peters and Cohan, "Longformer: the long-document transformer", 2020, section 3 (local windows
with global tokens).

Shape letters: B flows, L tokens per flow (padded).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final, NamedTuple, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from wirebert.errors import ConfigError

FULL: Final = "full"
NO_GROUP: Final = -1


class Tokens(NamedTuple):
    """What a pattern may look at."""

    place: Int[Tensor, "..."]
    """Position in the row; 0 is `[CLS]`."""

    group: Int[Tensor, "..."]
    """Group of the token's column; -1 for tokens of none: `[CLS]` and pieces of text."""

    id: Int[Tensor, "..."]
    """The token itself."""


Pattern = Callable[[Tokens, Tokens], Tensor]


def columns(asks: Tokens, answers: Tokens) -> Bool[Tensor, "..."]:
    """Tokens of one group of columns, and tokens of no group."""
    return (asks.group == answers.group) | (asks.group == NO_GROUP) | (answers.group == NO_GROUP)


def window(reach: int) -> Pattern:
    """Tokens at most `reach` places away."""
    return lambda asks, answers: (asks.place - answers.place).abs() <= reach


_IMPORTED: dict[str, Pattern] = {}
"""Functions of the user, by the name that the settings gave them."""


def import_pattern(name: str) -> Pattern | None:
    """As `find_pattern`, and a function given as `package.module:name` is imported: for a user's own
    settings.

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
            _IMPORTED[name] = cast(Pattern, found)
    return find_pattern(name)


def find_pattern(name: str) -> Pattern | None:
    """The pattern of this name: `full` (None), `columns`, `window:REACH`, or a function that has been
    imported.

    Nothing is imported here: the name may come from a model file, which must not run code.

    Raises:
        ConfigError: there is none.
    """
    if name == FULL:
        return None
    if name == "columns":
        return columns
    kind, _, reach = name.partition(":")
    if kind == "window" and reach.isdecimal() and int(reach) > 0:
        return window(int(reach))
    if name in _IMPORTED:
        return _IMPORTED[name]
    raise ConfigError(
        "model.attention_pattern must be full, columns, window:REACH, or a function package.module:name that "
        "can be "
        f"imported (for a saved model: `import_pattern` it before), got {name!r}"
    )


def allowed(
    pattern: Pattern,
    ids: Int[Tensor, "B L"],
    groups: Int[Tensor, "B L"],
    mask: Bool[Tensor, "B L"] | None,
) -> Bool[Tensor, "B L L"]:
    """Which slot may see which: what the pattern says, `[CLS]` and all, all and `[CLS]`, and padding
    never."""
    place = torch.arange(ids.shape[1], device=ids.device)
    asks = Tokens(place[None, :, None], groups[:, :, None], ids[:, :, None])
    answers = Tokens(place[None, None, :], groups[:, None, :], ids[:, None, :])
    sees = pattern(asks, answers) | (asks.place == 0) | (answers.place == 0)
    sees = sees.expand(len(ids), len(place), len(place))
    return sees if mask is None else sees & mask[:, None, :]
