"""The head that says which tokens were masked, and how rows of ids carry masks.

A masked token t is written as t + V, where V is the size of the vocabulary: what is asked and its answer go
wherever the row goes, and batches, packing and ranks need to know nothing of either. The model turns such an
id into what is shown in the token's place.

Source: Devlin et al., "BERT", 2018, section 3.1 (masked LM); the head is that of Hugging Face's
`DistilBertForMaskedLM`.

NOTE[DIFF]: BERT shows [MASK] for 8 of 10 chosen tokens, since no later task ever shows it. A feature is shown
here as the `column:<absent>` of its column, which tells the model which column is asked for, with or without
positions, and which it meets again wherever a source lacks a column; so every chosen token is masked. Pieces
of text are shown as [MASK].

Shape letters: N tokens of a batch, padding included, M places asked, D model width, V vocabulary.
"""

from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

NO_TOKEN: Final = -100
"""The answer at places that only fill up; `cross_entropy` leaves it out."""


@final
class MaskedHead(nn.Module):
    """Token logits at masked places, by the word embeddings themselves (tied weights).

    A batch is asked at `max_masked` places per row, whatever it holds, so that shapes do not depend on what
    is masked and a step can be recorded as a CUDA graph; places left over have the answer `NO_TOKEN`.
    """

    shown_ids: Int[Tensor, " 2V"]

    def __init__(
        self, dim: int, *, num_asked: int, token_masks: Int[Tensor, " V"], norm_eps: float = 1e-12
    ) -> None:
        super().__init__()
        self.num_asked, self.num_tokens = num_asked, len(token_masks)
        self.vocab_transform = nn.Linear(dim, dim)
        self.vocab_layer_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.vocab_bias = nn.Parameter(torch.zeros(self.num_tokens))
        itself = torch.arange(self.num_tokens)
        self.register_buffer("shown_ids", torch.cat([itself, token_masks.to(itself)]))

    def shown(self, ids: Int[Tensor, "*tokens"]) -> Int64[Tensor, "*tokens"]:
        """The ids with something else in the place of masked ones."""
        return self.shown_ids[ids.long()]

    def places(self, ids: Int[Tensor, "*tokens"], num_rows: int) -> Int64[Tensor, " M"]:
        """Where the masked tokens stand among all tokens of the batch; N where there are no more of them."""
        num_before_N = (ids.flatten() >= self.num_tokens).cumsum(0)
        wanted_M = torch.arange(1, num_rows * self.num_asked + 1, device=ids.device)
        return torch.searchsorted(num_before_N, wanted_M)

    def logits_of(self, ids: Int[Tensor, "*tokens"], num_rows: int) -> Int64[Tensor, " M"]:
        """The token behind each mask, in the order of `places`."""
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
        """Token logits at the places asked, from the tokens' states after the last block."""
        places_M = self.places(ids, num_rows).clamp(max=ids.numel() - 1)
        asked_MD = hidden.flatten(0, -2).index_select(0, places_M)
        guess_MD = self.vocab_layer_norm(F.gelu(self.vocab_transform(asked_MD)))
        return F.linear(guess_MD, words, self.vocab_bias)
