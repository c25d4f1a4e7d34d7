"""DistilBERT for classifying flows: embeddings, post-norm transformer blocks, and a head on the `[CLS]` slot.

Equal to Hugging Face's `DistilBertForSequenceClassification` to rounding, and loadable both ways by name. It differs
where flows let it be cheaper or better: query, key and value are one matrix product; the last block is computed for the
`[CLS]` slot only, since nothing reads its other slots; and tokens of one column may share a column embedding.

Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, section 3; Devlin et al., "BERT", 2018, section 3.

Shape letters: B flows in a batch, L tokens per flow (padded), D model width, H heads, E width of one head (D / H),
C classes, V vocabulary.
"""

from collections.abc import Iterator
from typing import cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wirebert.model.architecture import Architecture
from wirebert.model.attention import AttentionKernel, attend

NORM_EPS = 1e-12
INIT_STD = 0.02
NO_SLOT = -1


@final
class DistilBert(nn.Module):
    """Class logits from token ids.

    A new model has DistilBERT's random start: normal weights of standard deviation 0.02, zero biases. `token_slots`
    says which column each token of the vocabulary belongs to (-1: none); it matters only with column embeddings.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        token_slots: Int[Tensor, " V"] | None = None,
        attention: AttentionKernel = "auto",
        gradient_checkpointing: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.gradient_checkpointing = gradient_checkpointing
        if token_slots is None:
            token_slots = torch.full((architecture.vocab_size,), NO_SLOT)
        self.embeddings = Embeddings(architecture, token_slots)
        self.layer = nn.ModuleList(Block(architecture, attention) for _ in range(architecture.num_layers))
        self.pre_classifier = nn.Linear(architecture.dim, architecture.dim)
        self.classifier = nn.Linear(architecture.dim, architecture.num_classes)
        self.reset_parameters(generator)

    def forward(
        self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B C"]:
        """Class logits, one row per flow. `mask` is True at tokens and False at padding; None: nothing is padded."""
        return self.head(self.encode(self.embeddings(ids), mask))

    def encode(
        self, embedded: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B D"]:
        """The `[CLS]` slot after the last block: it stands for the whole flow."""
        hidden_BLD = embedded
        for block in self.layer[:-1]:
            hidden_BLD = self._through(block, hidden_BLD, mask)
        return self._through(self.layer[-1], hidden_BLD, mask, only_first=True)[:, 0]

    def head(self, flow: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Class logits of encoded flows."""
        hidden_BD = F.relu(self.pre_classifier(flow))
        return self.classifier(F.dropout(hidden_BD, self.architecture.head_dropout, self.training))

    def hidden_states(
        self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None
    ) -> list[Float[Tensor, "B L D"]]:
        """Every slot's embedding, then its state after each block (for tests and for explaining a decision)."""
        states = [self.embeddings(ids)]
        for block in self.layer:
            states.append(self._through(block, states[-1], mask))
        return states

    def _through(
        self, block: nn.Module, hidden: Tensor, mask: Tensor | None, *, only_first: bool = False
    ) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(block, hidden, mask, only_first, use_reentrant=False))
        return block(hidden, mask, only_first)

    def classifier_parameters(self) -> Iterator[nn.Parameter]:
        """Weights of the head, which start new and learn fast."""
        yield from self.pre_classifier.parameters()
        yield from self.classifier.parameters()

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """All other weights that are trained (not the frozen position rows)."""
        for part in (self.embeddings, self.layer):
            yield from (weight for weight in part.parameters() if weight.requires_grad)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start over as DistilBERT does: weights normal(0, 0.02), biases and the padding row 0, LayerNorm 1 and 0."""
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                part.weight.normal_(0.0, INIT_STD, generator=generator)
            if isinstance(part, nn.Linear):
                part.bias.zero_()
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()
        if not self.architecture.positions:
            self.embeddings.position_embeddings.weight.zero_()


@final
class Embeddings(nn.Module):
    """Token ids to vectors: word, plus position and column where the architecture has them."""

    token_slots: Int[Tensor, " V"]

    def __init__(self, architecture: Architecture, token_slots: Int[Tensor, " V"]) -> None:
        super().__init__()
        dim = architecture.dim
        self.positions = architecture.positions
        self.dropout = architecture.dropout
        self.word_embeddings = nn.Embedding(architecture.vocab_size, dim, padding_idx=architecture.pad_id)
        self.position_embeddings = nn.Embedding(architecture.max_positions, dim)
        self.position_embeddings.weight.requires_grad_(self.positions)
        self.column_embeddings: nn.Embedding | None = None
        if architecture.num_columns:
            # One row more than columns: tokens of no column read the last row, which stays zero.
            none = architecture.num_columns
            self.column_embeddings = nn.Embedding(none + 1, dim, padding_idx=none)
            token_slots = torch.where(token_slots == NO_SLOT, none, token_slots.long())
            self.register_buffer("token_slots", token_slots)
        self.LayerNorm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """Normalised embeddings, one per slot."""
        hidden_BLD = self.word_embeddings(ids)
        if self.positions:
            hidden_BLD = hidden_BLD + self.position_embeddings.weight[: ids.shape[1]]
        if self.column_embeddings is not None:
            hidden_BLD = hidden_BLD + self.column_embeddings(self.token_slots[ids])
        return F.dropout(self.LayerNorm(hidden_BLD), self.dropout, self.training)

    def folded(self) -> Float[Tensor, "V D"]:
        """Word embeddings with each token's column embedding added: what a stock model has to look up."""
        if self.column_embeddings is None:
            return self.word_embeddings.weight
        return self.word_embeddings.weight + self.column_embeddings(self.token_slots)


@final
class Block(nn.Module):
    """Self-attention and a feed-forward network, each added to its input and normalised after."""

    def __init__(self, architecture: Architecture, attention: AttentionKernel) -> None:
        super().__init__()
        dim = architecture.dim
        self.num_heads = architecture.num_heads
        self.dropout, self.attention_dropout = architecture.dropout, architecture.attention_dropout
        self.attention: AttentionKernel = attention
        self.qkv_lin = nn.Linear(dim, 3 * dim)
        self.out_lin = nn.Linear(dim, dim)
        self.sa_layer_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.lin1 = nn.Linear(dim, architecture.hidden_dim)
        self.lin2 = nn.Linear(architecture.hidden_dim, dim)
        self.output_layer_norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(
        self, hidden: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None, only_first: bool = False
    ) -> Float[Tensor, "B Q D"]:
        """New states of all slots, or of the first alone, which asks all slots all the same."""
        asking_BQD = hidden[:, :1] if only_first else hidden
        attended_BQD = self.out_lin(self._attend(asking_BQD, hidden, mask))
        attended_BQD = self.sa_layer_norm(attended_BQD + asking_BQD)
        inner_BQD = self.lin2(F.gelu(self.lin1(attended_BQD)))
        inner_BQD = F.dropout(inner_BQD, self.dropout, self.training)
        return self.output_layer_norm(inner_BQD + attended_BQD)

    def _attend(self, asking_BQD: Tensor, hidden_BLD: Tensor, mask: Tensor | None) -> Tensor:
        if asking_BQD is hidden_BLD:
            query, key, value = self.qkv_lin(hidden_BLD).chunk(3, dim=-1)
        else:
            dim = hidden_BLD.shape[-1]
            weight, bias = self.qkv_lin.weight, self.qkv_lin.bias
            query = F.linear(asking_BQD, weight[:dim], bias[:dim])
            key, value = F.linear(hidden_BLD, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        dropout = self.attention_dropout if self.training else 0.0
        context_BHQE = attend(query, key, value, mask, dropout=dropout, kernel=self.attention)
        return context_BHQE.transpose(1, 2).flatten(2)
