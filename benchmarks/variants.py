"""What `choices.py` sets side by side: settings of the product, and changes that the product does not have (yet).

A change is made to a model, its tokenizer or its corruption before training. All but the mean over tokens could be folded
into a stock DistilBERT when it is saved.

Shape letters: T tokens of all flows, R rows, D model width, V vocabulary.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from taught import TEACHERS, Lesson
from torch import Tensor, nn
from torch.nn import functional

from wirebert.encoding import numbers
from wirebert.encoding.numbers import NumberCounts, NumberEncoder
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.batches import NO_CLASS
from wirebert.model.distilbert import DistilBert
from wirebert.model.packing import Packing
from wirebert.training.corruption import Corruption, RaggedRows
from wirebert.training.feeding import LabelledRows
from wirebert.training.losses import Objective

TEMPERATURE = 0.1
FAR = -1e9
Kind = Literal["model", "xgboost", "lightgbm", "novelty", "teacher", "trees"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to make a detector."""

    kind: Kind = "model"
    overrides: tuple[str, ...] = ()
    change: str = ""
    """What is changed that no setting changes; one of the names below."""
    lesson: Lesson | None = None
    """What another method teaches it."""
    seed_offset: int = 0
    """Added to the seed of the training, not to that of the folds."""


SETTINGS = (
    *("training.class_weights=sqrt", "training.class_weights=balanced"),
    *(f"training.logit_adjustment={tau}" for tau in (0.5, 1.0)),
    *(f"training.label_smoothing={share}" for share in (0.02, 0.1)),
    *(f"training.corruption={share}" for share in (0.0, 0.05, 0.2, 0.4)),
    *(f"training.column_drop={share}" for share in (0.0, 0.2, 0.4)),
    "encoding.leave_out=false",
    "data.combine=true",
    *(f"encoding.frequent_values={number}" for number in (0, 64)),
    *(f"encoding.num_bins={number}" for number in (16, 32, 128)),
    *(f"training.learning_rate={rate}" for rate in (5e-4, 2e-3)),
    *(f"training.epochs={number}" for number in (2, 12)),
    "training.classifier_multiplier=1",
    *(f"model.dropout={share}" for share in (0.2, 0.3)),
)
SPACE: Mapping[str, Sequence[object]] = {
    "model.dropout": (0.1, 0.2, 0.3, 0.4),
    "training.class_weights": ("none", "sqrt", "balanced"),
    "training.corruption": (0.0, 0.05, 0.1, 0.2),
    "training.column_drop": (0.0, 0.05, 0.2, 0.4),
    "training.label_smoothing": (0.0, 0.0, 0.02, 0.1),
    "training.learning_rate": (5e-4, 1e-3, 2e-3),
    "training.epochs": (3, 5, 10),
    "training.weight_decay": (0.01, 0.1),
    "encoding.num_bins": (16, 32, 64),
    "encoding.frequent_values": (0, 16, 64),
}
"""What trials are drawn from, evenly, so that ours can be searched for as long as a rival in `wirebert compare`."""
TRIAL = "trial "
MOST_TRIALS = 64


def trial(number: int) -> Variant:
    """A random point of the space, and with one half chance the mean at first; the same for a number everywhere."""
    rng = np.random.default_rng([2, number])
    overrides = tuple(f"{name}={values[int(rng.integers(len(values)))]}" for name, values in SPACE.items())
    return Variant(overrides=overrides, change="mean at first" if rng.random() < 0.5 else "")


LESSONS = (
    *(("copies", number) for number in (0.0, 1.0, 4.0)),
    *(("most", share) for share in (0.2, 1.0)),
    *(("mix", share) for share in (0.0, 0.9, 1.0)),
    ("temperature", 2.0),
)
TREES_TEACH = ("distillation.trees=true", "distillation.mixed_rows=2", "distillation.temperature=1")
WEIGHED = ("training.class_weights=sqrt", "training.corruption=0.05")
TAUGHT_WITH: Mapping[str, tuple[str, ...]] = {
    "column_drop=0.2": ("training.column_drop=0.2",),
    "weighed": WEIGHED,
    "weighed, column_drop=0.2": (*WEIGHED, "training.column_drop=0.2"),
    "weighed, column_drop=0.2, mix=0.8": (*WEIGHED, "training.column_drop=0.2", "distillation.mix=0.8"),
    "weighed, column_drop=0.2, temperature=2": (
        *WEIGHED,
        "training.column_drop=0.2",
        "distillation.temperature=2",
    ),
}
TOGETHER = ("training.column_drop=0.2", "model.dropout=0.3")
VARIANTS: Mapping[str, Variant] = {
    "default": Variant(),
    # The default again with other draws: what a difference of nothing looks like.
    **{f"default, seed +{offset}": Variant(seed_offset=offset) for offset in (1000, 2000)},
    "xgboost": Variant(kind="xgboost"),
    "lightgbm": Variant(kind="lightgbm"),
    "novelty": Variant(kind="novelty"),
    **{text.partition(".")[2]: Variant(overrides=(text,)) for text in SETTINGS},
    **{
        name: Variant(change=name)
        for name in (
            *(
                "bins by rows",
                "bins by logarithm",
                "smooth bins",
                "ordinal bins",
                "bins moved 0.1",
                "bins moved 0.4",
            ),
            *(
                "names 0.3",
                "names 1.0",
                "names as classes",
                "contrast 0.1",
                "contrast 0.5",
                "mean over tokens",
                "mean at first",
            ),
        )
    },
    **{f"{TRIAL}{number}": trial(number) for number in range(1, MOST_TRIALS + 1)},
    "trees on tokens": Variant(kind="trees"),
    "trees teach": Variant(overrides=TREES_TEACH),
    **{
        f"trees teach, {what}": Variant(overrides=(*TREES_TEACH, *more)) for what, more in TAUGHT_WITH.items()
    },
    "column_drop=0.2, dropout=0.3": Variant(overrides=TOGETHER),
    **{f"teacher {name}": Variant(kind="teacher", change=name) for name in TEACHERS},
    **{f"taught by {name}": Variant(lesson=Lesson(teacher=name)) for name in TEACHERS},
    **{f"taught by trees, {n}={v}": Variant(lesson=Lesson(teacher="trees", **{n: v})) for n, v in LESSONS},
    "mean at first, column_drop=0.2, dropout=0.3": Variant(change="mean at first", overrides=TOGETHER),
}
"""Name in the table -> what is done; the default first."""

MIXTURES: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "3 seeds": (("default", "default, seed +1000", "default, seed +2000"), False),
    "default & xgboost": (("default", "xgboost"), False),
    "default & lightgbm": (("default", "lightgbm"), False),
    "xgboost & lightgbm": (("xgboost", "lightgbm"), False),
    "3 seeds & xgboost": (
        ("default", "default, seed +1000", "default, seed +2000", *("xgboost",) * 3),
        False,
    ),
    "default + novelty": (("default",), True),
    "xgboost + novelty": (("xgboost",), True),
    "3 seeds + novelty": (("default", "default, seed +1000", "default, seed +2000"), True),
    "default & xgboost + novelty": (("default", "xgboost"), True),
}
"""Name -> whose probabilities are averaged, and whether the novelty score joins the attack score. Nothing is trained."""


def bins_by_logarithm(_: NumberCounts, values: np.ndarray, num_bins: int) -> np.ndarray:
    """Starts of bins that are equally wide in the logarithm of the distance from the lowest value."""
    edges = values[0] + np.expm1(np.linspace(0, np.log1p(values[-1] - values[0]), num_bins + 1))[:-1]
    return values[np.unique(np.searchsorted(values, edges).clip(max=len(values) - 1))]


def bins_by_rows(counts: NumberCounts, values: np.ndarray, num_bins: int) -> np.ndarray:
    """Starts of bins that hold equally many rows, rather than equally many distinct values."""
    below = np.cumsum(counts.counts_[np.searchsorted(counts.values_, values)])
    return values[np.unique(np.searchsorted(below, np.arange(num_bins) * below[-1] / num_bins, side="right"))]


BINS = {"bins by logarithm": bins_by_logarithm, "bins by rows": bins_by_rows}


@contextmanager
def placed_bins(change: str) -> Generator[None]:
    """Tokenizers fitted within the block have their bins elsewhere."""
    if change not in BINS:
        yield
        return
    starts, fit = numbers.bin_starts, NumberEncoder.fit

    def fitted(column: str, counts: NumberCounts, num_bins: int, frequent_values: int) -> NumberEncoder:
        def place(values: np.ndarray, num_bins: int) -> np.ndarray:
            return BINS[change](counts, values, num_bins) if len(values) else starts(values, num_bins)

        numbers.bin_starts = place
        return fit(column, counts, num_bins, frequent_values)

    NumberEncoder.fit = staticmethod(fitted)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        numbers.bin_starts, NumberEncoder.fit = starts, fit


def smooth_bins(model: DistilBert, tokenizer: FlowTokenizer) -> None:
    """A bin's embedding is half its own and a quarter of each neighbour's."""
    left, right = (torch.arange(tokenizer.num_tokens) for _ in range(2))
    for bins in tokenizer.ordered_numbers:
        ids = torch.from_numpy(bins.astype(np.int64))
        left[ids[1:]], right[ids[:-1]] = ids[:-1], ids[1:]
    model.embeddings.register_buffer("left", left)
    model.embeddings.register_buffer("right", right)
    folded, buffers = model.embeddings.folded, cast(Any, model.embeddings)

    def smoothed() -> Tensor:
        weight_VD = folded()
        return weight_VD / 2 + (weight_VD[buffers.left] + weight_VD[buffers.right]) / 4

    buffers.folded = smoothed


def ordinal_bins(model: DistilBert, tokenizer: FlowTokenizer) -> None:
    """To a bin's embedding are added the steps of all bins up to it, so that what one bin learns moves all above it.

    Source: Gorishniy et al., "On embeddings for numerical features in tabular deep learning", NeurIPS 2022, section 3.2
    (piecewise linear encoding, here a step per bin).
    """
    is_bin = torch.zeros(tokenizer.num_tokens, 1)
    first = torch.arange(tokenizer.num_tokens)
    for bins in tokenizer.ordered_numbers:
        ids = torch.from_numpy(bins.astype(np.int64))
        is_bin[ids], first[ids] = 1.0, ids[0]
    parts = cast(Any, model.embeddings)
    parts.register_buffer("is_bin", is_bin)
    parts.register_buffer("first", first)
    parts.register_parameter("steps", nn.Parameter(torch.zeros(tokenizer.num_tokens, model.architecture.dim)))
    folded = model.embeddings.folded

    def stepped() -> Tensor:
        sums_VD = torch.cumsum(parts.steps * parts.is_bin, 0)
        from_first_VD = sums_VD - sums_VD[parts.first]
        # Many bins share a step, so that it moves slowly for the same change.
        return folded() + from_first_VD * parts.is_bin / 8

    parts.folded = stepped


def mean_over_tokens(model: DistilBert, _: FlowTokenizer) -> None:
    """The head reads the mean of all tokens instead of `[CLS]`; no stock model can."""

    def encode(embedded: Tensor, layout: Any) -> Tensor:
        hidden = embedded
        for block in model.layer:
            hidden = block(hidden, layout)
        if isinstance(layout, Packing):
            num_rows = layout.starts.shape[0] - 1
            sums_RD = hidden.new_zeros(num_rows, hidden.shape[1]).index_add(0, layout.row_of.long(), hidden)
            return sums_RD / (layout.starts[1:] - layout.starts[:-1])[:, None]
        if layout is None:
            return hidden.mean(1)
        return (hidden * layout[..., None]).sum(1) / layout.sum(1, keepdim=True)

    cast(Any, model).encode = encode


def mean_at_first(model: DistilBert, _: FlowTokenizer) -> None:
    """The last block's queries start at zero: at first `[CLS]` weighs all tokens alike there, and can learn to choose."""
    queries = cast(Any, model.layer[-1]).qkv_lin
    with torch.no_grad():
        queries.weight[: model.architecture.dim].zero_()
        queries.bias[: model.architecture.dim].zero_()


MODELS: Mapping[str, Callable[[DistilBert, FlowTokenizer], None]] = {
    "smooth bins": smooth_bins,
    "ordinal bins": ordinal_bins,
    "mean over tokens": mean_over_tokens,
    "mean at first": mean_at_first,
}


@dataclass(frozen=True)
class Targets:
    """Flows with other targets than their classes."""

    ids: np.ndarray
    offsets: np.ndarray
    class_ids: np.ndarray


@contextmanager
def further_aim(
    change: str, model: DistilBert, flows: LabelledRows, name_ids: np.ndarray
) -> Generator[LabelledRows]:
    """The flows to train on within the block, where a term read off what the head reads joins the loss.

    `names WEIGHT`: cross entropy of a second head that tells the labels as in the file. `contrast WEIGHT`: flows of a class
    lie close together and far from others (Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equation 2,
    temperature 0.1).

    NOTE[DIFF]: the contrast has no projection of its own, and one view of each flow.
    """
    aim, _, text = change.partition(" ")
    if aim not in ("names", "contrast") or change == "names as classes":
        yield flows
        return
    weight, num_classes, plain = float(text), model.architecture.num_classes, Objective.total
    vectors: list[Tensor] = []
    hook = model.pre_classifier.register_forward_pre_hook(lambda _, read: vectors.append(read[0]))
    if aim == "names":  # a part of the classifier, so that it learns at its rate
        model.classifier.namer = nn.Linear(model.architecture.dim, int(name_ids.max()) + 1)
        flows = Targets(flows.ids, flows.offsets, flows.class_ids + num_classes * name_ids)

    def total(objective: Objective, logits: Tensor, targets: Tensor) -> Tensor:
        flow_RD, has_target = vectors[-1] if vectors else logits, targets >= 0
        vectors.clear()
        if aim == "contrast":
            loss = plain(objective, logits, targets)
            return loss + weight * contrast(flow_RD.float(), targets) if logits.requires_grad else loss
        class_ids = torch.where(has_target, targets % num_classes, NO_CLASS)
        loss = functional.cross_entropy(logits.float(), class_ids, reduction="sum")
        if not logits.requires_grad:  # on validation flows the classes alone count
            return loss
        named = cast(nn.Linear, model.classifier.namer)(flow_RD.float())
        names = torch.where(has_target, targets // num_classes, NO_CLASS)
        return loss + weight * functional.cross_entropy(named, names, reduction="sum")

    Objective.total = total  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield flows
    finally:
        Objective.total = plain
        hook.remove()


def contrast(flow_RD: Tensor, class_ids: Tensor) -> Tensor:
    """Sum over flows of the mean of -log share that a flow of the same class has of the similarity to all others."""
    unit_RD = functional.normalize(flow_RD, dim=1)
    has_class = class_ids >= 0
    is_pair = (
        has_class[:, None] & has_class & ~torch.eye(len(class_ids), dtype=torch.bool, device=class_ids.device)
    )
    close_RR = unit_RD @ unit_RD.T / TEMPERATURE
    shares_RR = close_RR - close_RR.masked_fill(~is_pair, FAR).logsumexp(1, keepdim=True)
    is_same = is_pair & (class_ids[:, None] == class_ids)
    return -((shares_RR * is_same).sum(1) / is_same.sum(1).clamp(min=1)).sum()


@dataclass(frozen=True)
class MovedBins:
    """A corruption that first moves this share of bins one up or down."""

    inner: Corruption
    share: float
    neighbours: np.ndarray
    """Bin below and above each token; itself where there is none."""

    def apply(self, rows: RaggedRows, seed: int) -> RaggedRows:
        """Changed copies of the rows."""
        rng = np.random.default_rng(seed)
        moved = self.neighbours[rows.ids, rng.integers(0, 2, len(rows.ids))]
        ids = np.where(rng.random(len(rows.ids)) < self.share, moved, rows.ids).astype(rows.ids.dtype)
        return self.inner.apply(RaggedRows(ids, rows.offsets), seed)


def corruption_with(change: str, corruption: Corruption, tokenizer: FlowTokenizer) -> Corruption:
    """The corruption of a change; as it is for others."""
    if not change.startswith("bins moved "):
        return corruption
    neighbours = np.repeat(np.arange(tokenizer.num_tokens)[:, None], 2, axis=1)
    for bins in tokenizer.ordered_numbers:
        neighbours[bins[1:], 0], neighbours[bins[:-1], 1] = bins[:-1], bins[1:]
    return cast(Corruption, MovedBins(corruption, float(change.split()[-1]), neighbours))
