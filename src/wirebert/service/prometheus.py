"""Counters, gauges and histograms as Prometheus reads them.

Source: Prometheus documentation, "Exposition formats", text format 0.0.4.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@final
class Measures:
    """What happened so far. Use it from one thread."""

    def __init__(self) -> None:
        self._help: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, dict[tuple[tuple[str, str], ...], int]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._histograms: dict[str, _Histogram] = {}

    def counter(self, name: str, text: str) -> None:
        """A number that only rises, one for each combination of labels."""
        self._help[name] = ("counter", text)
        self._counts[name] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that is read when it is asked for."""
        self._help[name] = ("gauge", text)
        self._gauges[name] = read

    def histogram(self, name: str, text: str, bounds: Sequence[float] = SECONDS) -> None:
        """How values are spread."""
        self._help[name] = ("histogram", text)
        self._histograms[name] = _Histogram(bounds)

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Raise a counter."""
        key = tuple(sorted(labels.items()))
        counts = self._counts[name]
        counts[key] = counts.get(key, 0) + amount

    def observe(self, name: str, value: float) -> None:
        """Add a value to a histogram."""
        self._histograms[name].add(value)

    def text(self) -> str:
        """All of it, as it is scraped."""
        lines: list[str] = []
        for name, (kind, text) in self._help.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            if kind == "counter":
                lines += [f"{name}{_labels(key)} {value}" for key, value in self._counts[name].items()]
            elif kind == "gauge":
                lines.append(f"{name} {self._gauges[name]()!r}")
            else:
                lines += self._histograms[name].lines(name)
        return "\n".join(lines) + "\n"


@final
class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        found, total = [], 0
        for bound, count in zip((*map(repr, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*found, f"{name}_sum {self._sum!r}", f"{name}_count {total}"]


def _labels(pairs: tuple[tuple[str, str], ...]) -> str:
    """`{class="a\\"b"}`: backslash, quote and line end are escaped.

    >>> _labels((("class", 'a"b'),))
    '{class="a\\\\"b"}'
    """
    if not pairs:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in pairs
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
