"""Initial embeddings of feature tokens.

Numbers start in order, special tokens at their column's mean, new tokens at the mean of their subwords. A
random start would discard prior knowledge: that `src_bytes:q17` is close to `src_bytes:q18`.

Shape letters: N tokens of one column, D model width, F frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import ABSENT
from wirebert.model.distilbert import INIT_STD, DistilBert
from wirebert.model.patterns import NO_GROUP
from wirebert.shapes import Float, Int


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLayout:
    """The properties of a vocabulary that a model needs."""

    vocabulary: tuple[str, ...]
    """Every token's text, by id."""

    pad_id: int

    positions: bool
    """False: the order of a row's tokens has no meaning."""

    num_slots: int

    token_slots: Int[np.ndarray, " tokens"]
    """Each token's slot, -1 for none."""

    token_groups: Int[np.ndarray, " tokens"]
    """Each token's group of columns, -1 for none."""

    slot_special_states: tuple[Int[np.ndarray, " _"], ...]
    """Per slot, the tokens of special states (missing, unseen, absent, rare, ...)."""

    ordered_numbers: tuple[Int[np.ndarray, " _"], ...]
    """Bins and exact values of each numeric column, in order."""

    new_tokens: Int[np.ndarray, " new"]
    """Tokens that the pretrained vocabulary lacks; empty if no vocabulary is extended."""

    new_token_subwords: tuple[Int[np.ndarray, " _"], ...]
    """For each of `new_tokens`, its subwords (at least one)."""

    @property
    def token_masks(self) -> Int[np.ndarray, " tokens"]:
        """The replacement of each token where it is masked: the `<absent>` of its column, or `[MASK]`."""
        absent = [int(marks[ABSENT]) for marks in self.slot_special_states]
        return np.array([*absent, self.vocabulary.index("[MASK]")])[self.token_slots]

    @classmethod
    def of(cls, tokenizer: FlowTokenizer) -> "TokenLayout":
        """The layout of a fitted tokenizer's vocabulary."""
        new_tokens, pieces = tokenizer.new_token_subwords()
        return cls(
            vocabulary=tokenizer.vocabulary,
            pad_id=tokenizer.pad_id,
            positions=not tokenizer.omits_most_frequent,
            num_slots=len(tokenizer.slot_names),
            token_slots=tokenizer.token_slots,
            token_groups=np.append(tokenizer.slot_groups, NO_GROUP)[tokenizer.token_slots],
            slot_special_states=tokenizer.slot_special_states,
            ordered_numbers=tokenizer.ordered_numbers,
            new_tokens=new_tokens,
            new_token_subwords=tuple(pieces),
        )


def initialize_embeddings(model: DistilBert, layout: TokenLayout, generator: torch.Generator) -> None:
    """Initialise the embeddings of the tokens of `layout`."""
    initialize_from_subwords(model, layout.new_tokens, layout.new_token_subwords)
    initialize_numbers(
        model, layout.ordered_numbers, generator=generator, around_mean=len(layout.new_tokens) > 0
    )
    initialize_special(model, layout.slot_special_states, layout.token_slots)


@torch.no_grad()
def initialize_numbers(
    model: DistilBert,
    ordered_numbers: Sequence[Int[np.ndarray, " _"]],
    *,
    generator: torch.Generator,
    num_frequencies: int = 8,
    around_mean: bool = False,
) -> None:
    """Start each column's numbers on a smooth random curve, so that close numbers are similar.

    With `around_mean` the curve is centred on the mean of their current embeddings, which keeps the
    information from their subwords; otherwise on zero.
    """
    words_VD = model.embeddings.word_embeddings.weight
    for numbers in ordered_numbers:
        if len(numbers) < 2:
            continue  # a single number has no order
        ids = torch.from_numpy(numbers.astype(np.int64))
        curve_ND = smooth_curves(len(numbers), words_VD.shape[1], num_frequencies, generator).to(words_VD)
        words_VD[ids] = curve_ND + words_VD[ids].mean(dim=0) if around_mean else curve_ND


def smooth_curves(
    num_points: int, dim: int, num_frequencies: int, generator: torch.Generator
) -> Float[Tensor, "points dim"]:
    """Points along a random smooth curve in `dim` dimensions, each with a root mean square of 0.02.

    Each coordinate is a sum of a few slow cosines of the point's position, with normal coefficients that
    decrease with the frequency.

    >>> curve = smooth_curves(64, 128, 8, torch.Generator().manual_seed(0))
    >>> cosine = torch.nn.functional.cosine_similarity(curve[20], curve, dim=-1)
    >>> bool(cosine[21] > cosine[24] > cosine[40])
    True
    """
    place_N = torch.linspace(0, 1, num_points)
    frequencies_F = torch.arange(1, num_frequencies + 1)
    coefficients_FD = torch.randn(num_frequencies, dim, generator=generator) / frequencies_F[:, None]
    curve_ND = torch.cos(torch.pi * place_N[:, None] * frequencies_F) @ coefficients_FD
    return curve_ND * (INIT_STD / curve_ND.square().mean(dim=1, keepdim=True).sqrt())


@torch.no_grad()
def initialize_special(
    model: DistilBert, slot_marks: Sequence[Int[np.ndarray, " _"]], token_slots: Int[np.ndarray, " tokens"]
) -> None:
    """Start each slot's special states, which training data may lack, at the mean of the slot's values.

    A slot without values keeps its random start.
    """
    words_VD = model.embeddings.word_embeddings.weight
    for slot, marks in enumerate(slot_marks):
        values = np.setdiff1d(np.flatnonzero(token_slots == slot), marks)
        if len(values) > 0:
            words_VD[torch.from_numpy(marks.astype(np.int64))] = words_VD[torch.from_numpy(values)].mean(
                dim=0
            )


@torch.no_grad()
def initialize_from_subwords(
    model: DistilBert, ids: Int[np.ndarray, " new"], pieces: Sequence[Int[np.ndarray, " _"]]
) -> None:
    """Start each new token at the mean embedding of its subwords (at least one)."""
    if len(ids) == 0:
        return
    words_VD = model.embeddings.word_embeddings.weight
    counts = np.array([len(parts) for parts in pieces], dtype=np.int64)
    assert counts.all(), "a token without pieces"
    flat = torch.from_numpy(np.concatenate(pieces).astype(np.int64))
    starts = torch.from_numpy(np.cumsum(counts) - counts)
    means = torch.nn.functional.embedding_bag(
        flat.to(words_VD.device), words_VD, starts.to(words_VD.device), mode="mean"
    )
    words_VD[torch.from_numpy(ids.astype(np.int64))] = means
