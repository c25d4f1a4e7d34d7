"""Attention patterns: all tokens of a row, neighbours, one group of columns, or a user's function.

`[CLS]`, the first token of a row, always sees all tokens and is seen by all, since it represents the row. The
pattern determines the rest; it is a function of tensors that broadcast:

    def pattern(asks: Tokens, answers: Tokens) -> Bool[Tensor, "..."]: ...

Source: Beltagy, Peters and Cohan, "Longformer: the long-document transformer", 2020, section 3 (local windows
with global tokens).

Shape letters: B flows, L tokens per flow (padded).
"""

from collections.abc import Callable
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor

from wirebert.model.pattern_names import COLUMNS, FULL, IMPORTED, check_pattern, window_reach
from wirebert.shapes import Bool, Int

NO_GROUP: Final = -1


class Tokens(NamedTuple):
    """The inputs of a pattern."""

    place: Int[Tensor, "..."]
    """Position in the row; 0 is `[CLS]`."""

    group: Int[Tensor, "..."]
    """Group of the token's column; -1 for tokens without one: `[CLS]` and text pieces."""

    id: Int[Tensor, "..."]
    """Token id."""


Pattern = Callable[[Tokens, Tokens], Tensor]


def columns(asks: Tokens, answers: Tokens) -> Bool[Tensor, "..."]:
    """Tokens of one group of columns, and tokens of no group."""
    return (asks.group == answers.group) | (asks.group == NO_GROUP) | (answers.group == NO_GROUP)


def window(reach: int) -> Pattern:
    """Tokens at most `reach` positions away."""
    return lambda asks, answers: (asks.place - answers.place).abs() <= reach


def find_pattern(name: str) -> Pattern | None:
    """The pattern of this name: `full` (None), `columns`, `window:REACH`, or an imported function.

    Raises:
        ConfigError: there is no such pattern.
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
    """Which slot sees which: by the pattern; `[CLS]` sees and is seen by all, padding is never seen."""
    place = torch.arange(ids.shape[1], device=ids.device)
    asks = Tokens(place[None, :, None], groups[:, :, None], ids[:, :, None])
    answers = Tokens(place[None, None, :], groups[:, None, :], ids[:, None, :])
    sees = pattern(asks, answers) | (asks.place == 0) | (answers.place == 0)
    sees = sees.expand(len(ids), len(place), len(place))
    return sees if mask is None else sees & mask[:, None, :]
