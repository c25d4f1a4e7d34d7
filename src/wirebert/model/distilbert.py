"""DistilBERT for classifying flows: embeddings, post-norm transformer blocks, and a head on the `[CLS]` slot.

Equal to Hugging Face's `DistilBertForSequenceClassification` to rounding, and loadable both ways by name. It
differs where flows let it be cheaper or better: query, key and value are one matrix product; the last block
is computed for the `[CLS]` slot only, since nothing reads its other slots; and tokens of one column may share
a column embedding.

Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, section 3; Devlin et al., "BERT", 2018,
section 3.

Rows come padded to one length, or packed end to end (`wirebert.model.packing`): everything but attention
treats tokens alone, so both go through the same code.

Shape letters: B flows in a batch, L tokens per flow (padded), T tokens of all flows (packed), D model width,
H heads, E width of one head (D / H), C classes, V vocabulary.
"""

from collections.abc import Iterator
from typing import cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wirebert.model.attention import attend, attend_packed
from wirebert.model.config import Architecture, AttentionKernel
from wirebert.model.masked_lm import MaskedHead
from wirebert.model.normalization import linear_add_norm, linear_gelu, normalized
from wirebert.model.packing import Packing, padded_positions, position_in_row
from wirebert.model.patterns import NO_GROUP, allowed, find_pattern

NORM_EPS = 1e-12
INIT_STD = 0.02
NO_SLOT = -1


@final
class DistilBert(nn.Module):
    """Class logits from token ids.

    A new model has DistilBERT's random start: normal weights of standard deviation 0.02, zero biases.
    `token_slots` says which column each token of the vocabulary belongs to (-1: none); it matters only with
    column embeddings. `token_groups` says which group of columns (-1: none); it matters only to attention
    patterns.

    With `architecture.max_masked` it is a model of masked tokens (`wirebert.model.masked_lm`): token logits
    at the masked places take the place of class logits, and `token_masks` says what each token is shown as
    where it is masked.
    """

    token_groups: Int[Tensor, " V"]

    def __init__(
        self,
        architecture: Architecture,
        *,
        token_slots: Int[Tensor, " V"] | None = None,
        token_groups: Int[Tensor, " V"] | None = None,
        token_masks: Int[Tensor, " V"] | None = None,
        attention: AttentionKernel = "auto",
        gradient_checkpointing: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.gradient_checkpointing = gradient_checkpointing
        if token_slots is None:
            token_slots = torch.full((architecture.vocab_size,), NO_SLOT)
        self.pattern = find_pattern(architecture.attention_pattern)
        if self.pattern is not None:
            if token_groups is None:
                token_groups = torch.full((architecture.vocab_size,), NO_GROUP)
            self.register_buffer("token_groups", token_groups.long())
        self.embeddings = Embeddings(architecture, token_slots)
        self.layer = nn.ModuleList(Block(architecture, attention) for _ in range(architecture.num_layers))
        self.masked: MaskedHead | None = None
        if architecture.max_masked:
            if token_masks is None:
                token_masks = torch.full((architecture.vocab_size,), architecture.pad_id)
            self.masked = MaskedHead(
                architecture.dim, num_asked=architecture.max_masked, token_masks=token_masks
            )
        else:
            self.pre_classifier = nn.Linear(architecture.dim, architecture.dim)
            self.classifier = nn.Linear(architecture.dim, architecture.num_classes)
        self.reset_parameters(generator)

    def forward(
        self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "asked C"]:
        """Class logits, one row per flow. `mask` is True at tokens and False at padding; None: nothing is
        padded."""
        layout, shown = mask, ids if self.masked is None else self.masked.shown(ids)
        if self.pattern is not None:
            layout = allowed(self.pattern, shown, self.token_groups[shown], mask)
        embedded = self.embeddings(shown)
        if self.masked is not None:
            return self._predict_masked(self.masked, embedded, layout, ids, len(ids))
        return self.head(self.encode(embedded, layout))

    def forward_packed(self, ids: Int[Tensor, " T"], packing: Packing) -> Float[Tensor, "asked C"]:
        """Class logits of packed flows, one row per flow."""
        if self.pattern is not None:  # a pattern is a mask per row, which padded rows have
            places, mask = padded_positions(packing)
            padded = torch.where(mask, ids[places], self.architecture.pad_id)
            longest = self.architecture.max_positions  # a batch has room for more than some models take
            return self.forward(padded[:, :longest], mask[:, :longest])
        places = None
        if self.architecture.positions:  # rows of padding may be longer than any flow
            places = position_in_row(packing).clamp(max=self.architecture.max_positions - 1)
        if self.masked is not None:
            embedded = self.embeddings(self.masked.shown(ids), places)
            return self._predict_masked(self.masked, embedded, packing, ids, packing.starts.shape[0] - 1)
        return self.head(self.encode(self.embeddings(ids, places), packing))

    def _predict_masked(
        self, head: MaskedHead, hidden: Tensor, layout: Tensor | Packing | None, ids: Tensor, num_rows: int
    ) -> Float[Tensor, "asked V"]:
        """Token logits at masked places."""
        for block in self.layer:
            hidden = self._through(block, hidden, layout)
        return head(hidden, ids, num_rows, self.embeddings.folded())

    def encode(
        self,
        embedded: Float[Tensor, "B L D"] | Float[Tensor, "T D"],
        layout: Bool[Tensor, "B L"] | Bool[Tensor, "B L L"] | Packing | None,
    ) -> Float[Tensor, "B D"]:
        """The `[CLS]` slot after the last block: it represents the whole flow.

        `layout` says which slots are real, or which sees which, or where packed rows lie.
        """
        hidden = embedded
        for block in self.layer[:-1]:
            hidden = self._through(block, hidden, layout)
        return self._through(self.layer[-1], hidden, layout, only_first=True).flatten(0, -2)

    def head(self, flow: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Class logits of encoded flows."""
        hidden_BD = F.relu(self.pre_classifier(flow))
        return self.classifier(F.dropout(hidden_BD, self.architecture.head_dropout, self.training))

    def hidden_states(
        self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None
    ) -> list[Float[Tensor, "B L D"]]:
        """Every slot's embedding, then its state after each block, as stock models give them."""
        states = [self.embeddings(ids)]
        layout = mask if self.pattern is None else allowed(self.pattern, ids, self.token_groups[ids], mask)
        for block in self.layer:
            states.append(self._through(block, states[-1], layout))
        return states

    def _through(
        self,
        block: nn.Module,
        hidden: Tensor,
        layout: Tensor | Packing | None,
        *,
        only_first: bool = False,
    ) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(block, hidden, layout, only_first, use_reentrant=False))
        return block(hidden, layout, only_first)

    def classifier_parameters(self) -> Iterator[nn.Parameter]:
        """Weights of the head, which start new and learn fast."""
        heads = (self.pre_classifier, self.classifier) if self.masked is None else (self.masked,)
        for head in heads:
            yield from head.parameters()

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """All other weights that are trained (not the frozen position rows)."""
        for part in (self.embeddings, self.layer):
            yield from (weight for weight in part.parameters() if weight.requires_grad)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start over as DistilBERT does: weights normal(0, 0.02), biases and the padding row 0, LayerNorm 1
        and 0."""
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

    def forward(
        self, ids: Int[Tensor, "B L"] | Int[Tensor, " T"], places: Int[Tensor, " T"] | None = None
    ) -> Float[Tensor, "*tokens D"]:
        """Normalised embeddings, one per slot. `places` are the tokens' positions in their packed rows."""
        hidden = F.embedding(ids, self.folded(), self.word_embeddings.padding_idx)
        if self.positions:
            rows = self.position_embeddings.weight
            hidden = hidden + (rows[: ids.shape[1]] if places is None else F.embedding(places, rows))
        return F.dropout(normalized(hidden, self.LayerNorm), self.dropout, self.training)

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
        self,
        hidden: Float[Tensor, "B L D"] | Float[Tensor, "T D"],
        layout: Bool[Tensor, "B L"] | Bool[Tensor, "B L L"] | Packing | None,
        only_first: bool = False,
    ) -> Float[Tensor, "*asking D"]:
        """New states of all slots, or of each row's first alone, which asks all slots of its row all the
        same."""
        asking = _first(hidden, layout) if only_first else hidden
        context = self._attend(asking, hidden, layout)
        attended = linear_add_norm(context, self.out_lin, asking, self.sa_layer_norm)
        inner = linear_gelu(attended, self.lin1)
        dropout = self.dropout if self.training else 0.0
        return linear_add_norm(inner, self.lin2, attended, self.output_layer_norm, dropout=dropout)

    def _attend(self, asking: Tensor, hidden: Tensor, layout: Tensor | Packing | None) -> Tensor:
        dropout = self.attention_dropout if self.training else 0.0
        query, projected = None, None
        if asking is hidden:
            projected = self.qkv_lin(hidden)
        else:
            dim, weight, bias = hidden.shape[-1], self.qkv_lin.weight, self.qkv_lin.bias
            query = F.linear(asking, weight[:dim], bias[:dim])
            projected = F.linear(hidden, weight[dim:], bias[dim:])
        if isinstance(layout, Packing):
            return attend_packed(
                *(projected, query, layout),
                num_heads=self.num_heads,
                dropout=dropout,
                kernel=self.attention,
            )
        parts = projected.chunk(3 if query is None else 2, dim=-1)
        asks_BHQE, *answers_BHLE = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (parts if query is None else (query, *parts))
        )
        key_BHLE, value_BHLE = answers_BHLE
        if layout is not None and layout.dim() == 3:
            layout = layout[:, : asking.shape[1]]
        context_BHQE = attend(asks_BHQE, key_BHLE, value_BHLE, layout, dropout=dropout, kernel=self.attention)
        return context_BHQE.transpose(1, 2).flatten(2)


def _first(hidden: Tensor, layout: Tensor | Packing | None) -> Tensor:
    """The first slot of each row."""
    return hidden.index_select(0, layout.starts[:-1]) if isinstance(layout, Packing) else hidden[:, :1]
