"""The head that predicts masked tokens, and the encoding of masks in rows of ids.

A masked token t is written as t + V, where V is the size of the vocabulary. So a row contains both mask and
target, and batches, packing and ranks need no special code. The model replaces such an id by the mask token.

Source: Devlin et al., "BERT", 2018, section 3.1 (masked LM); the head is that of Hugging Face's
`DistilBertForMaskedLM`.

NOTE[DIFF]: BERT replaces 8 of 10 chosen tokens by [MASK], since later tasks never contain it. Here every
chosen token is masked. A feature is replaced by the `column:<absent>` of its column, which names the column
even without positions and occurs later wherever a source lacks a column. Text pieces are replaced by [MASK].

Shape letters: N tokens of a batch including padding, M masked positions, D model width, V vocabulary.
"""

from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor, nn

from wirebert.model.linear import Linear
from wirebert.shapes import Float, Int, Int64

NO_TOKEN: Final = -100
"""The target at unused positions; `cross_entropy` ignores it."""


@final
class MaskedHead(nn.Module):
    """Token logits at masked positions, with the word embeddings as output weights (tied).

    A batch always has `num_asked` positions per row, so that shapes do not depend on the masks and a step can
    be recorded as a CUDA graph; unused positions have the target `NO_TOKEN`.
    """

    shown_ids: Int[Tensor, " 2V"]

    def __init__(
        self, dim: int, *, num_asked: int, token_masks: Int[Tensor, " V"], norm_eps: float = 1e-12
    ) -> None:
        super().__init__()
        self.num_asked, self.num_tokens = num_asked, len(token_masks)
        self.vocab_transform = Linear(dim, dim)
        self.vocab_layer_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.vocab_bias = nn.Parameter(torch.zeros(self.num_tokens))
        itself = torch.arange(self.num_tokens)
        self.register_buffer("shown_ids", torch.cat([itself, token_masks.to(itself)]))

    def shown(self, ids: Int[Tensor, "*tokens"]) -> Int64[Tensor, "*tokens"]:
        """The ids with masked tokens replaced by their mask token."""
        return self.shown_ids[ids.long()]

    def places(self, ids: Int[Tensor, "*tokens"], num_rows: int) -> Int64[Tensor, " M"]:
        """The positions of the masked tokens in the flattened batch; N at unused positions."""
        num_before_N = (ids.flatten() >= self.num_tokens).cumsum(0)
        wanted_M = torch.arange(1, num_rows * self.num_asked + 1, device=ids.device)
        return torch.searchsorted(num_before_N, wanted_M)

    def logits_of(self, ids: Int[Tensor, "*tokens"], num_rows: int) -> Int64[Tensor, " M"]:
        """The masked token at each position, in the order of `places`."""
        places_M = self.places(ids, num_rows)
        tokens_M = ids.flatten()[places_M.clamp(max=ids.numel() - 1)].long() - self.num_tokens
        return torch.where(places_M < ids.numel(), tokens_M, NO_TOKEN)

    def forward(
        self,
        hidden: Float[Tensor, "*tokens D"],
        ids: Int[Tensor, "*tokens"],
        num_rows: int,
        words: Float[Tensor, "V D"],
    ) -> Float[Tensor, "M V"]:
        """Token logits at the masked positions, from the states after the last block."""
        places_M = self.places(ids, num_rows).clamp(max=ids.numel() - 1)
        guess_MD = self.guess(hidden.flatten(0, -2).index_select(0, places_M))
        return F.linear(guess_MD, words, self.vocab_bias)

    def guess(self, asked: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        """The transformed states at masked positions; a token's logit is the product with its embedding."""
        return self.vocab_layer_norm(F.gelu(self.vocab_transform(asked)))
