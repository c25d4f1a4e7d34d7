"""How surprising each feature of a flow is to a masked language model, given its other features.

A pass masks some columns and predicts them from all others. *Leave-one-out* has one pass per column; with
*groups* of columns a few passes do, in which the columns of a group do not see each other. The softmax is
over the tokens of the feature's own column.

A port is always surprising, a protocol hardly ever, and each more or less so beside other features. So what
is scored is the *excess*: the surprisal less that which the prediction itself expects, its entropy.

Source: Salazar et al., "Masked language model scoring", ACL 2020. NOTE[DIFF]: less the entropy.

Shape letters: B flows, L tokens per flow (padded), S slots (features; text columns last), M masked positions,
D model width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor

from wirebert.encoding.token_rows import JaggedRows, TokenRows, by_length, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.batches import pad
from wirebert.model.distilbert import DistilBert
from wirebert.shapes import Bool, Float, Float32, Int64
from wirebert.training.masking import Masking

ROWS_AT_ONCE = 8_192
MAX_TOKENS = 16_384
"""Tokens of one forward pass, with padding."""


Pass = Bool[np.ndarray, " S"]
"""The features that one forward pass predicts; without text columns, whose pieces are shared out."""


def grouped_passes(tokenizer: FlowTokenizer, num_groups: int | None, seed: int) -> list[Pass]:
    """Passes that predict every column once, in random groups; None: one pass per column (leave-one-out).

    The bits of a flags column are predicted together.
    """
    num_slots = len(tokenizer.slots) - len(tokenizer.text_columns)
    columns = tokenizer.slot_columns[:num_slots]
    num_columns = int(columns.max(initial=-1)) + 1
    order = np.random.default_rng(seed).permutation(num_columns)
    groups = (order * min(num_groups or num_columns, num_columns) // max(1, num_columns))[columns]
    return [groups == group for group in range(int(groups.max(initial=0)) + 1)]


class Reader(NamedTuple):
    """The tokens of one column, or all pieces of text: what a softmax is over."""

    first: int
    tokens: Int64[Tensor, " own"]
    """Their ids, `first` and those after it."""


@final
@dataclass(frozen=True)
class SurprisalScorer:
    """Excess surprisal (nats) of every feature of flows, by a masked language model and a list of passes."""

    model: DistilBert
    tokenizer: FlowTokenizer
    masking: Masking
    passes: Sequence[Pass]
    device: str = "cpu"

    def surprisals(self, flows: TokenRows) -> Float32[np.ndarray, "B S"]:
        """-log P of each feature's value less the entropy of P, left-out values included.

        Of a text, the sum over its pieces.
        """
        num_flows = len(flows.offsets) - 1
        found = np.zeros((num_flows, len(self.tokenizer.slots)), np.float32)
        was_training = self.model.training
        self.model.to(self.device).eval()
        readers = self._readers()
        try:
            with torch.inference_mode():
                words = self.model.embeddings.folded()
                for first in range(0, num_flows, ROWS_AT_ONCE):
                    rows = take_rows(flows, np.arange(first, min(first + ROWS_AT_ONCE, num_flows)))
                    for number in range(len(self.passes)):
                        masked = self._masked(rows, number)
                        self._read(masked, words, readers, found[first : first + len(rows)])
        finally:
            self.model.train(was_training)
        return found

    def _masked(self, rows: JaggedRows, number: int) -> JaggedRows:
        """The rows of a pass; of the pieces of texts every n-th is masked, with n passes."""
        place = np.arange(len(rows.ids)) - np.repeat(rows.offsets[:-1], rows.lengths)
        is_piece = self.masking.is_piece[rows.ids] & (place % len(self.passes) == number)
        is_chosen = np.broadcast_to(self.passes[number], (len(rows), len(self.passes[number])))
        return self.masking.mask(rows, is_chosen, is_piece)

    def _read(
        self,
        rows: JaggedRows,
        words: Float[Tensor, "V D"],
        readers: Sequence[Reader],
        target: Float32[np.ndarray, "B S"],
    ) -> None:
        """Add the excess surprisal of every masked token to its slot in `target`."""
        head = self.model.masked
        assert head is not None, "a masked language model"
        for batch in by_length(rows.lengths, MAX_TOKENS):
            ids_BL, mask_BL = pad(rows, batch, pad_id=self.model.architecture.pad_id)
            places_M = np.flatnonzero(ids_BL.numpy() >= head.num_tokens)
            if not len(places_M):
                continue
            row_M, slot_M = places_M // ids_BL.shape[1], self._slots(ids_BL.numpy())[places_M]
            ids_BL, at_M = ids_BL.to(self.device), torch.from_numpy(places_M).to(self.device)
            mask_BL = None if mask_BL is None else mask_BL.to(self.device)
            hidden_BLD = self.model.hidden_states(head.shown(ids_BL), mask_BL)[-1]
            guess_MD = head.guess(hidden_BLD.flatten(0, 1).index_select(0, at_M))
            tokens_M = ids_BL.flatten()[at_M] - head.num_tokens
            excess_M = excess_surprisals(guess_MD, tokens_M, words, head.vocab_bias, readers)
            np.add.at(target, (batch[row_M], slot_M), excess_M.cpu().numpy())

    def _slots(self, ids: Int64[np.ndarray, "B L"]) -> Int64[np.ndarray, " positions"]:
        """The slot of each token; a piece belongs to the text whose `column:` token precedes it."""
        slots = self.tokenizer.token_slots[ids % self.masking.num_tokens].astype(np.int64)
        num_features = len(self.tokenizer.slots) - len(self.tokenizer.text_columns)
        texts = np.maximum.accumulate(np.where(slots >= num_features, slots, -1), axis=1)
        return np.where(slots >= 0, slots, texts).reshape(-1)

    def _readers(self) -> list[Reader]:
        slots = self.tokenizer.token_slots
        sets = [np.flatnonzero(slots == slot) for slot in range(len(self.masking.default_ids))]
        sets.append(np.flatnonzero(self.masking.is_piece))
        return [Reader(int(ids[0]), torch.from_numpy(ids).to(self.device)) for ids in sets if len(ids)]


def excess_surprisals(
    guess: Float[Tensor, "M D"],
    tokens: Int64[Tensor, " M"],
    words: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"],
    readers: Sequence[Reader],
) -> Float32[Tensor, " M"]:
    """-log P of each token among the tokens of its own column, less the entropy of P."""
    excess_M = torch.zeros(len(tokens), device=guess.device)
    for first, own in readers:
        picked = ((tokens >= first) & (tokens <= own[-1])).nonzero().flatten()
        if len(picked):
            log_probs = F.linear(guess[picked], words[own], bias[own]).float().log_softmax(dim=1)
            index = torch.searchsorted(own, tokens[picked])
            expected = (log_probs.exp() * log_probs).sum(dim=1)
            excess_M[picked] = expected - log_probs.gather(1, index[:, None])[:, 0]
    return excess_M
