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
from typing import Final, NamedTuple, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from wirebert.model.pattern_names import COLUMNS, FULL, IMPORTED, check_pattern, window_reach

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


def find_pattern(name: str) -> Pattern | None:
    """The pattern of this name: `full` (None), `columns`, `window:REACH`, or a function that has been
    imported.

    Raises:
        ConfigError: there is none.
    """
    check_pattern(name)
    if name == FULL:
        return None
    if name == COLUMNS:
        return columns
    reach = window_reach(name)
    return cast(Pattern, IMPORTED[name]) if reach is None else window(reach)


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
