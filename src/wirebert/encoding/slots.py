"""A slot: one feature position of a row, with the tokens that can stand there."""

from dataclasses import dataclass

from wirebert.encoding.vocabulary import escape_column, escape_value

MISSING, UNSEEN, ABSENT = 0, 1, 2
"""The first three tokens of every slot: no value; a value that training never showed; no such column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """The tokens of one feature position. Token 0 is `<missing>`, 1 the unseen one, 2 `<absent>`."""

    name: str
    """The column, or `column.bit` for a flag."""
    marks: tuple[str, ...]
    """Tokens that stand for a state rather than a value (`<missing>`, `<rare>`), first in the slot."""
    values: tuple[str, ...]
    """What the other tokens stand for, as the file writes it (or as `q17`)."""
    default: int
    """The token of the most frequent value, which rows may leave out."""
    bins: tuple[int, ...] = ()
    """The tokens that are bins of a number, in order."""
    ordered: tuple[int, ...] = ()
    """The tokens of a number's values, bins and others, from low to high."""
    shown: tuple[str, ...] = ()
    """What people read for each of `values`, where that is more than the value (`q17 [181, 239)`)."""

    def __len__(self) -> int:
        return len(self.marks) + len(self.values)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The vocabulary strings, in order."""
        key = escape_column(self.name)
        marks = [f"{key}:{mark}" for mark in self.marks]
        return (*marks, *(f"{key}:{escape_value(value)}" for value in self.values))

    @property
    def texts(self) -> tuple[str, ...]:
        """What each token says, for people."""
        return (*self.marks, *(self.shown or self.values))
