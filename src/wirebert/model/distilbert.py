"""DistilBERT for classifying flows: embeddings, post-norm transformer blocks, and a head on the `[CLS]` slot.

Equal to Hugging Face's `DistilBertForSequenceClassification` up to rounding; each loads the other's weights
by name. It differs where this is cheaper or better for flows: query, key and value are one matrix product;
the last block computes only the `[CLS]` slot, since the head reads no other; and tokens of one column may
share a column embedding.

Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, section 3; Devlin et al., "BERT", 2018,
section 3.

Rows are padded to one length or packed end to end (`wirebert.model.packing`). Everything except attention
treats tokens separately, so both share the same code.

Shape letters: B flows in a batch, L tokens per flow (padded), T tokens of all flows (packed), D model width,
H heads, E width of one head (D / H), C classes, V vocabulary.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wirebert.model.attention import attend, attend_packed
from wirebert.model.config import Architecture, AttentionKernel
from wirebert.model.linear import Linear
from wirebert.model.masked_lm import MaskedHead
from wirebert.model.normalization import linear_add_norm, linear_gelu, looked_up, normalized
from wirebert.model.packing import Packing, padded_positions, position_in_row
from wirebert.model.patterns import NO_GROUP, allowed, find_pattern
from wirebert.model.undrawn import Undrawn
from wirebert.shapes import Bool, Float, Int

if TYPE_CHECKING:
    from wirebert.model.kernels.sums import Places

NORM_EPS = 1e-12
INIT_STD = 0.02
NO_SLOT = -1


@final
class DistilBert(nn.Module):
    """Class logits from token ids.

    A new model is initialised as DistilBERT: normal weights with standard deviation 0.02, zero biases.
    `token_slots` is each token's column (-1: none), used only with column embeddings. `token_groups` is each
    token's group of columns (-1: none), used only by attention patterns.

    With `architecture.max_masked` it is a masked language model (`wirebert.model.masked_lm`): it returns
    token logits at the masked positions instead of class logits, and `token_masks` is the token that replaces
    each token where it is masked.
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
        with Undrawn():  # their weights are drawn below, not here as well
            blocks = [Block(architecture, attention) for _ in range(architecture.num_layers)]
        self.layer = nn.ModuleList(blocks)
        self.masked: MaskedHead | None = None
        if architecture.max_masked:
            if token_masks is None:
                token_masks = torch.full((architecture.vocab_size,), architecture.pad_id)
            self.masked = MaskedHead(
                architecture.dim, num_asked=architecture.max_masked, token_masks=token_masks
            )
        else:
            self.pre_classifier = Linear(architecture.dim, architecture.dim)
            self.classifier = Linear(architecture.dim, architecture.num_classes)
        self.reset_parameters(generator)

    def forward(
        self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "asked C"]:
        """Class logits, one row per flow. `mask` is False at padding; None: there is no padding."""
        layout, shown = mask, ids if self.masked is None else self.masked.shown(ids)
        if self.pattern is not None:
            layout = allowed(self.pattern, shown, self.token_groups[shown], mask)
        embedded = self.embeddings(shown)
        if self.masked is not None:
            return self._predict_masked(self.masked, embedded, layout, ids, len(ids))
        return self.head(self.encode(embedded, layout))

    def forward_packed(self, ids: Int[Tensor, " T"], packing: Packing) -> Float[Tensor, "asked C"]:
        """Class logits of packed flows, one row per flow."""
        if self.pattern is not None:  # patterns are masks of padded rows
            token_indices, mask = padded_positions(packing)
            padded = torch.where(mask, ids[token_indices], self.architecture.pad_id)
            longest = self.architecture.max_positions  # the capacity may exceed the model's longest row
            return self.forward(padded[:, :longest], mask[:, :longest])
        positions = None
        if self.architecture.positions:  # rows of padding may be longer than any flow
            positions = position_in_row(packing).clamp(max=self.architecture.max_positions - 1)
        if self.masked is not None:
            embedded = self.embeddings(self.masked.shown(ids), positions)
            return self._predict_masked(self.masked, embedded, packing, ids, packing.starts.shape[0] - 1)
        return self.head(self.encode(self.embeddings(ids, positions), packing))

    def _predict_masked(
        self, head: MaskedHead, hidden: Tensor, layout: Tensor | Packing | None, ids: Tensor, num_rows: int
    ) -> Float[Tensor, "asked V"]:
        """Token logits at the masked positions."""
        for block in self.layer:
            hidden = self._through(block, hidden, layout)
        return head(hidden, ids, num_rows, self.embeddings.folded())

    def encode(
        self,
        embedded: Float[Tensor, "B L D"] | Float[Tensor, "T D"],
        layout: Bool[Tensor, "B L"] | Bool[Tensor, "B L L"] | Packing | None,
    ) -> Float[Tensor, "B D"]:
        """The `[CLS]` slot after the last block, which represents the whole flow.

        `layout` is the padding mask, the attention mask per pair of slots, or the packing.
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
        """Every slot's embedding, then its state after each block, as in stock models."""
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
        """Weights of the head, which has a higher learning rate."""
        heads = (self.pre_classifier, self.classifier) if self.masked is None else (self.masked,)
        for head in heads:
            yield from head.parameters()

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """All other trained weights (not the frozen position rows)."""
        for part in (self.embeddings, self.layer):
            yield from (weight for weight in part.parameters() if weight.requires_grad)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialise as DistilBERT: weights normal(0, 0.02), biases and padding row 0, LayerNorm 1 and 0."""
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
    """Embeddings of token ids: word, plus position and column if the architecture has them."""

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
            # One extra row: tokens without a column read the last row, which stays zero.
            none = architecture.num_columns
            self.column_embeddings = nn.Embedding(none + 1, dim, padding_idx=none)
            token_slots = torch.where(token_slots == NO_SLOT, none, token_slots.long())
            self.register_buffer("token_slots", token_slots)
        self._slot_places: "dict[torch.device, Places]" = {}
        self.LayerNorm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(
        self, ids: Int[Tensor, "B L"] | Int[Tensor, " T"], places: Int[Tensor, " T"] | None = None
    ) -> Float[Tensor, "*tokens D"]:
        """Normalised embeddings, one per slot. `places` are the tokens' positions in their packed rows."""
        hidden = looked_up(ids, self.folded(), self.word_embeddings.padding_idx)
        if self.positions:
            rows = self.position_embeddings.weight
            hidden = hidden + (rows[: ids.shape[1]] if places is None else F.embedding(places, rows))
        return F.dropout(normalized(hidden, self.LayerNorm), self.dropout, self.training)

    def folded(self) -> Float[Tensor, "V D"]:
        """Word embeddings plus each token's column embedding, as a stock model looks them up."""
        if self.column_embeddings is None:
            return self.word_embeddings.weight
        columns, slots = self.column_embeddings, self.token_slots
        return self.word_embeddings.weight + looked_up(
            slots, columns.weight, columns.padding_idx, self._slot_places
        )


@final
class Block(nn.Module):
    """Self-attention and a feed-forward network, each with a residual sum followed by LayerNorm."""

    def __init__(self, architecture: Architecture, attention: AttentionKernel) -> None:
        super().__init__()
        dim = architecture.dim
        self.num_heads = architecture.num_heads
        self.dropout, self.attention_dropout = architecture.dropout, architecture.attention_dropout
        self.attention: AttentionKernel = attention
        self.qkv_lin = Linear(dim, 3 * dim)
        self.out_lin = Linear(dim, dim)
        self.sa_layer_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.lin1 = Linear(dim, architecture.hidden_dim)
        self.lin2 = Linear(architecture.hidden_dim, dim)
        self.output_layer_norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(
        self,
        hidden: Float[Tensor, "B L D"] | Float[Tensor, "T D"],
        layout: Bool[Tensor, "B L"] | Bool[Tensor, "B L L"] | Packing | None,
        only_first: bool = False,
    ) -> Float[Tensor, "*asking D"]:
        """New states of all slots, or with `only_first` of each row's first (which attends to all)."""
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
            dim = hidden.shape[-1]
            query = self.qkv_lin(asking, slice(None, dim))
            projected = self.qkv_lin(hidden, slice(dim, None))
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
