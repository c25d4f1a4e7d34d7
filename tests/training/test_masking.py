"""What is masked, how much of it, and that a row gives nothing away."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from jaxtyping import Int64, UInt16

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.telemetry.events import Event, StepEvent
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.masking import Masking
from wirebert.training.masking_config import MaskingConfig
from wirebert.training.result import TrainingResult
from wirebert.training.trainer import fit_model

V, CLS, NUM_SLOTS = 50, 2, 4
# Token 5 + 10 s + i is value i of slot s; 45 is the `column:` token of a text, 46 to 49 are pieces.
TOKEN_SLOTS = np.array([-1] * 5 + [slot for slot in range(NUM_SLOTS) for _ in range(10)] + [-1] * 5)
PLAIN = Masking(
    num_tokens=V,
    token_slots=TOKEN_SLOTS,
    is_piece=np.arange(V) >= 46,
    default_ids=np.array([5, 15, 25, 35]),
    omits_most_frequent=False,
    mask_fraction=0.5,
    max_text_masked=0,
    max_length=64,
)


def rows_of(*rows: list[int]) -> JaggedRows:
    lengths = [len(row) for row in rows]
    return JaggedRows(np.concatenate(rows).astype(np.uint16), np.concatenate([[0], np.cumsum(lengths)]))


def full_rows(num_rows: int, seed: int = 0) -> JaggedRows:
    """Rows of [CLS] and a value for every slot."""
    values = np.random.default_rng(seed).integers(0, 10, (num_rows, NUM_SLOTS))
    ids = 5 + 10 * np.arange(NUM_SLOTS) + values
    return rows_of(*np.insert(ids, 0, CLS, axis=1).tolist())


def without_defaults(rows: JaggedRows) -> JaggedRows:
    kept = ~np.isin(rows.ids, PLAIN.default_ids)
    starts = np.add.reduceat(kept, rows.offsets[:-1])
    return JaggedRows(rows.ids[kept], np.concatenate([[0], np.cumsum(starts)]))


def test_each_row_has_its_share_masked_and_everything_else_as_it_was():
    rows = full_rows(200)
    found = PLAIN.apply(rows, seed=1)
    masked = (found.ids >= V).reshape(200, 1 + NUM_SLOTS)
    assert (masked.sum(axis=1) == 2).all()
    assert not masked[:, 0].any()
    assert np.array_equal(found.ids % V, rows.ids)
    assert (masked[:, 1:].mean(axis=0) > 0.4).all()


def test_the_same_seed_masks_the_same_and_another_seed_something_else():
    rows = full_rows(50)
    first = PLAIN.apply(rows, seed=1)
    assert np.array_equal(first.ids, PLAIN.apply(rows, seed=1).ids)
    assert not np.array_equal(first.ids, PLAIN.apply(rows, seed=2).ids)


def test_a_value_that_is_left_out_is_masked_like_any_other():
    rows = full_rows(300)
    found = replace(PLAIN, omits_most_frequent=True).apply(without_defaults(rows), seed=1)
    row_of = np.repeat(np.arange(300), np.diff(found.offsets))
    masked = found.ids >= V
    assert (np.bincount(row_of[masked]) == 2).all()
    # Of each row and slot the mask's answer is the value that the row has, written or not.
    values = rows.ids.reshape(300, -1)[:, 1:]
    answers = found.ids[masked] - V
    slots = TOKEN_SLOTS[answers]
    assert np.array_equal(values[row_of[masked], slots], answers)
    assert np.isin(answers, PLAIN.default_ids).mean() == pytest.approx(0.1, abs=0.04)
    # What is left is written as before: no default, and nothing that is masked.
    assert not np.isin(found.ids[~masked], PLAIN.default_ids).any()
    assert len(found.ids) - masked.sum() == (
        len(without_defaults(rows).ids) - (~np.isin(answers, PLAIN.default_ids)).sum()
    )


def test_pieces_are_masked_by_their_share_and_the_token_of_their_column_never():
    masking = replace(PLAIN, max_text_masked=4, mask_fraction=0.25)
    rows = rows_of(*[[CLS, 5, 15, 25, 35, 45, *[46, 47, 48, 49][:length]] for length in (0, 1, 4) * 40])
    found = masking.apply(rows, seed=1)
    row_of = np.repeat(np.arange(120), np.diff(found.offsets))
    is_piece = np.isin(found.ids % V, [46, 47, 48, 49])
    num_masked = np.bincount(row_of[(found.ids >= V) & is_piece], minlength=120)
    assert num_masked.reshape(40, 3).tolist() == [[0, 1, 1]] * 40
    assert not (found.ids == 45 + V).any()
    assert masking.max_masked == 1 + 1
    pieces = found.ids[(found.ids >= V) & is_piece] - V
    assert len(set(pieces.tolist())) == 4


def test_of_a_tokenizer_neither_special_tokens_nor_those_of_text_columns_are_masked():
    columns = (
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),
    )
    schema = FlowSchema(name="flows", columns=columns)
    table = pa.table({"proto": ["tcp", "udp"] * 30, "uri": ["/a?b=c", "/login/now"] * 30})
    tokenizer = FlowTokenizer.fit(schema, lambda: [table], EncodingConfig(subword_vocab_size=256))
    block = tokenizer.encode(table)
    found = Masking.of(tokenizer, MaskingConfig(mask_fraction=0.99)).apply(
        JaggedRows(block.ids, block.offsets), 1
    )
    words = np.array(tokenizer.vocabulary)
    kept = set(words[found.ids[found.ids < tokenizer.num_tokens]].tolist())
    masked = set(words[found.ids[found.ids >= tokenizer.num_tokens] - tokenizer.num_tokens].tolist())
    assert kept == {"[CLS]", "uri:"}
    assert {"proto:tcp", "proto:udp"} < masked


def test_ids_get_wide_enough_for_twice_the_vocabulary():
    assert replace(PLAIN, num_tokens=1 << 15).dtype == np.uint16
    assert replace(PLAIN, num_tokens=(1 << 15) + 1).dtype == np.uint32


@dataclass(frozen=True)
class Flows:
    """Rows whose classes are of no interest."""

    ids: UInt16[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " flows+1"]
    class_ids: Int64[np.ndarray, " flows"]


class Interrupt:
    """A listener that presses Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def receive(self, event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == self.step:
            raise KeyboardInterrupt


def flows_of(rows: JaggedRows) -> Flows:
    return Flows(rows.ids, rows.offsets, np.zeros(len(rows.offsets) - 1, np.int64))


def alike_rows(num_rows: int, seed: int) -> JaggedRows:
    """Rows whose values are all the same, so that any of them gives a masked one away."""
    values = np.random.default_rng(seed).integers(0, 10, (num_rows, 1))
    return rows_of(*np.insert(5 + 10 * np.arange(NUM_SLOTS) + values, 0, CLS, axis=1).tolist())


def pretrain(folder: Path, *, stops_after: int = 0) -> tuple[DistilBert, TrainingResult]:
    architecture = Architecture(
        vocab_size=V,
        num_classes=V,
        dim=32,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        max_positions=8,
        max_masked=PLAIN.max_masked,
    )
    absent = torch.from_numpy(np.where(TOKEN_SLOTS < 0, 4, TOKEN_SLOTS))
    model = DistilBert(architecture, token_masks=absent, generator=torch.Generator().manual_seed(0))
    result = fit_model(
        model,
        flows_of(alike_rows(300, 1)),
        flows_of(PLAIN.apply(alike_rows(100, 2), seed=5)),
        TrainConfig(
            epochs=12, batch_size=50, learning_rate=1e-2, device="cpu", log_every=1, checkpoint_every=5
        ),
        seed=1,
        corruption=PLAIN,
        checkpoints=CheckpointFolder(folder),
        log=None,
        listeners=[Interrupt(stops_after)] if stops_after else [],
    )
    return model, result


def test_pretraining_finds_what_the_other_features_give_away_and_resumes_to_the_same_bits(tmp_path: Path):
    model, result = pretrain(tmp_path / "whole")
    last = result.history[-1]
    assert last.valid_accuracy > 0.4  # ten values, equally often: a guess is right in one of ten
    assert 0.4 < last.train_accuracy <= 1
    assert last.valid_loss < np.log(10)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "cut", stops_after=23)
    again, resumed = pretrain(tmp_path / "cut")
    assert resumed.best_valid_loss == result.best_valid_loss
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
