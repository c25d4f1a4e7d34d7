"""Counts of features and scores of traffic, in blocks of consecutive flows: what drift is measured on.

Flows come in bursts, so single flows are not independent. Blocks of many flows nearly are, and how much they
differ from each other tells how much a later block may differ without meaning anything.
"""

import zlib
from copy import copy
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from wirebert.decision.alert_score import log_odds
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.shapes import Bool, Float, Float64, Int64

NUM_BLOCKS: Final = 40
"""Blocks of a long log; there are at most one less than twice as many."""
FEWEST_FLOWS: Final = 25
"""Flows of a block of a short log."""
SCORES: Final = ("attack score", "novelty", "alerts", "unseen values")
"""What is counted beside the features."""
ODDS_STEP, MOST_ODDS = 0.5, 16.0
"""Width of the cells of attack scores in log-odds (nats), and where the last one begins."""
NOVELTY_EDGES: Final = np.geomspace(0.01, 300.0, 63)
_NUM_CELLS: Final = (64, 64, 2, 2)


@dataclass(frozen=True, slots=True)
class ScoredFlows:
    """Flows as the model reads them, with their scores."""

    block: JaggedRows
    has_unseen: Bool[np.ndarray, " flows"]
    """Whether a flow has a value that training lacked."""
    attack_score: Float[np.ndarray, " flows"] | None = None
    novelty: Float64[np.ndarray, " flows"] | None = None
    is_alert: Bool[np.ndarray, " flows"] | None = None
    """None, as for scores: it is not known."""

    @property
    def scores(self) -> tuple[Int64[np.ndarray, " flows"] | None, ...]:
        """The cell of each flow in each of `SCORES`."""
        attack = None if self.attack_score is None else _attack_cells(self.attack_score)
        novelty = None if self.novelty is None else np.digitize(self.novelty, NOVELTY_EDGES).astype(np.int64)
        alerts = None if self.is_alert is None else self.is_alert.astype(np.int64)
        return attack, novelty, alerts, self.has_unseen.astype(np.int64)


@final
class TrafficBlocks:
    """Counts of every token and score in blocks of consecutive flows, in bounded memory.

    A cell is a token of a slot, or a range of a score. When there are twice `NUM_BLOCKS` blocks, pairs become
    one.

    Args:
        num_flows: flows of a block at first.
        window: keep only so many last blocks, of `num_flows` flows; None: keep all.
    """

    def __init__(
        self, tokenizer: FlowTokenizer, num_flows: int = FEWEST_FLOWS, window: int | None = None
    ) -> None:
        self.num_flows = num_flows
        """Flows of a block."""
        self.num_closed = 0
        """Blocks that were filled so far."""
        self._window, self._num_tokens = window, tokenizer.num_tokens
        self._first = int(tokenizer.slot_special.min(initial=tokenizer.num_tokens))
        sizes = [len(slot) for slot in tokenizer.slots]
        self._slot_starts = np.cumsum([0, *sizes])[:-1]
        self._defaults = tokenizer.default_ids - self._first
        self._num_slot_cells = sum(sizes)
        self._blocks: list[Int64[np.ndarray, " cells"]] = []
        self._open = np.zeros(self._num_slot_cells + sum(_NUM_CELLS), np.int64)
        self._num_open = 0

    @property
    def counts(self) -> Int64[np.ndarray, "blocks cells"]:
        """Flows per cell in each block; the last one that is not full is left out."""
        return np.stack([*self._blocks, self._open])[:-1]

    def add(self, flows: ScoredFlows) -> None:
        """Count the next flows."""
        scores, row = flows.scores, 0
        while row < len(flows.block):
            stop = min(len(flows.block), row + self.num_flows - self._num_open)
            self._count(flows.block, scores, row, stop)
            self._num_open += stop - row
            row = stop
            if self._num_open == self.num_flows:
                self._close()

    def of_part(self, num_rows: int, first_row: int) -> "TrafficBlocks":
        """What counts the flows from `first_row` on of a log of `num_rows`, to be merged in order.

        Its blocks are those that the whole log ends with, so that memory is bounded in each part.
        """
        part = copy(self)
        while num_rows // part.num_flows >= 2 * NUM_BLOCKS:
            part.num_flows *= 2
        part._blocks, part._window = [], 2 * NUM_BLOCKS
        part._open, part._num_open = np.zeros_like(self._open), first_row % part.num_flows
        return part

    def to_bytes(self) -> bytes:
        """What an `of_part` has counted, for `read_bytes`."""
        return zlib.compress(np.stack([*self._blocks, self._open]).astype("<i8").tobytes(), 1)

    def read_bytes(self, content: bytes, num_rows: int) -> None:
        """Take over what the `of_part` with the same first row has counted of so many flows."""
        counts = np.frombuffer(zlib.decompress(content), "<i8").reshape(-1, len(self._open))
        self._blocks, self._open = [*counts[:-1].astype(np.int64)], counts[-1].astype(np.int64)
        self.num_closed, self._num_open = len(self._blocks), (self._num_open + num_rows) % self.num_flows

    def merge(self, later: "TrafficBlocks") -> None:
        """Add the flows after these, which were counted by another `of_part` of the log."""
        first, *others = [*later._blocks, later._open]
        blocks = [self._open + first, *others]
        self._blocks += blocks[:-1]
        self._open, self._num_open = blocks[-1], later._num_open
        self.num_closed += later.num_closed

    def set_scores(
        self, attack_score: Float64[np.ndarray, " flows"], is_alert: Bool[np.ndarray, " flows"]
    ) -> None:
        """Count other attack scores and alerts of all flows that were counted; none may have been dropped."""
        for which, cells in ((0, _attack_cells(attack_score)), (2, is_alert.astype(np.int64))):
            at, size = self._num_slot_cells + sum(_NUM_CELLS[:which]), _NUM_CELLS[which]
            for row, counts in enumerate(self._blocks):
                some = cells[row * self.num_flows : (row + 1) * self.num_flows]
                counts[at : at + size] = np.bincount(some, minlength=size)

    def _count(
        self, block: JaggedRows, scores: tuple[Int64[np.ndarray, " flows"] | None, ...], row: int, stop: int
    ) -> None:
        ids = block.ids[block.offsets[row] : block.offsets[stop]]
        of_token = np.bincount(ids, minlength=self._num_tokens)
        cells = of_token[self._first : self._first + self._num_slot_cells]
        if len(cells):
            cells[self._defaults] += stop - row - np.add.reduceat(cells, self._slot_starts)  # those left out
        self._open[: len(cells)] += cells
        at = self._num_slot_cells
        for size, of_flow in zip(_NUM_CELLS, scores, strict=True):
            if of_flow is not None:
                self._open[at : at + size] += np.bincount(of_flow[row:stop], minlength=size)
            at += size

    def _close(self) -> None:
        self._blocks.append(self._open)
        self._open, self._num_open = np.zeros_like(self._open), 0
        self.num_closed += 1
        if self._window is not None:
            del self._blocks[: -self._window]
        elif len(self._blocks) == 2 * NUM_BLOCKS:
            self._blocks = [a + b for a, b in zip(self._blocks[::2], self._blocks[1::2], strict=True)]
            self.num_flows *= 2


def cell_sizes(tokenizer: FlowTokenizer) -> tuple[int, ...]:
    """Number of cells of each slot, then of each of `SCORES`."""
    return (*(len(slot) for slot in tokenizer.slots), *_NUM_CELLS)


def _attack_cells(attack_score: Float[np.ndarray, " flows"]) -> Int64[np.ndarray, " flows"]:
    odds = log_odds(attack_score.astype(np.float64))
    return ((odds + MOST_ODDS) / ODDS_STEP).astype(np.int64).clip(0, 63)
