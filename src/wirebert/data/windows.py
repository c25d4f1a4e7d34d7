"""`ContextWindows`: how far back a flow's context reaches. The schema stores them, so training and scoring
agree."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from wirebert.errors import SchemaError

MAX_WINDOW_S = 86_400
CONTEXT_PREFIX = "ctx_"
"""Prefix of the names of context columns."""
MAX_FLOWS = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextWindows:
    """The two windows before each flow, and the most flows that they hold."""

    short_s: int = 60
    """Seconds of the short window, at least 1."""

    long_s: int = 3_600
    """Seconds of the long window, above the short one and at most a day."""

    max_flows: int = 3_000_000
    """Most flows that are remembered, in [1, 4194304]: no window reaches back further. A million takes 0.1 to
    0.3 GB."""

    def __post_init__(self) -> None:
        if not 1 <= self.short_s < self.long_s <= MAX_WINDOW_S:
            raise SchemaError(
                f"context windows must be 1 <= short < long <= {MAX_WINDOW_S} seconds, got {self.short_s} "
                f"and {self.long_s}"
            )
        if not 1 <= self.max_flows <= MAX_FLOWS:
            raise SchemaError(f"context max_flows must be in [1, {MAX_FLOWS}], got {self.max_flows}")

    def to_dict(self) -> dict[str, object]:
        """Plain data for TOML and JSON."""
        return {"short_s": self.short_s, "long_s": self.long_s, "max_flows": self.max_flows}

    @classmethod
    def from_dict(cls, plain: object, where: str) -> "ContextWindows":
        """The windows that `to_dict` gave.

        >>> ContextWindows.from_dict({"short_s": 60}, "schema")
        Traceback (most recent call last):
        wirebert.errors.SchemaError: schema: context has short_s, long_s and max_flows as whole numbers, got
        {'short_s': 60}
        """
        table = plain if isinstance(plain, Mapping) else {}
        names = [field.name for field in fields(cls)]
        numbers = {name: table.get(name) for name in names}
        values = {name: value for name, value in numbers.items() if type(value) is int}
        if set(table) != set(names) or len(values) != len(names):
            raise SchemaError(
                f"{where}: context has short_s, long_s and max_flows as whole numbers, got {plain!r}"
            )
        return cls(**values)
