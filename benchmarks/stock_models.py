"""What others do: stock `transformers` models in a loop of one's own, and `transformers.Trainer`.

Nothing is fetched: models start from random weights, which are as fast as trained ones.
"""

import inspect
import itertools
import os
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple, final

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from harness import MeanRow, Meter, Work
from torch import Tensor

from wirebert.model.config import Architecture
from wirebert.training.feeding import LabelledFlows

WORDPIECE_TOKENS = 397
"""Of a row of NSL-KDD as `key: value` text, on average (docs/experiments.md)."""
WORDPIECE_VOCABULARY = 30_522
POOL = 16
"""Different batches of random ids that a loop goes round in."""


def stock_model(architecture: Architecture) -> Any:
    """`DistilBertForSequenceClassification` of this shape."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    settings: dict[str, Any] = architecture.to_hugging_face(
        tuple(str(number) for number in range(architecture.num_classes))
    )
    return DistilBertForSequenceClassification(DistilBertConfig(**settings))


class Batch(NamedTuple):
    """Padded rows on the device; no mask where nothing is padded, which is cheaper."""

    ids: Tensor
    mask: Tensor | None
    class_ids: Tensor
    work: Work


def random_batches(
    architecture: Architecture, *, batch_size: int, padded_to: int, device: torch.device
) -> list[Batch]:
    """Rows of WordPiece ids at random, as long as NSL-KDD's, cut at `padded_to`: speed does not depend on the ids."""
    random = np.random.default_rng(0)
    batches: list[Batch] = []
    for _ in range(POOL):
        lengths = random.normal(WORDPIECE_TOKENS, 0.05 * WORDPIECE_TOKENS, batch_size)
        lengths = lengths.astype(int).clip(1, padded_to)
        ids = torch.from_numpy(random.integers(1, architecture.vocab_size, (batch_size, padded_to)))
        mask = torch.from_numpy((np.arange(padded_to) < lengths[:, None]).astype(np.int64))
        class_ids = torch.from_numpy(random.integers(0, architecture.num_classes, batch_size))
        is_padded = bool(lengths.min() < padded_to)
        mean_row = MeanRow(float(lengths.mean()), float(np.square(lengths.astype(float)).mean()))
        work = mean_row.work(architecture, batch_size, padded_to)
        batches.append(
            Batch(ids.to(device), mask.to(device) if is_padded else None, class_ids.to(device), work)
        )
    return batches


def stock_loop(
    architecture: Architecture,
    meter: Meter,
    *,
    batch_size: int,
    padded_to: int,
    dtype: torch.dtype,
    fused: bool,
) -> None:
    """A stock model on WordPiece rows in a plain loop, as careful as most are; fp16 comes with gradient scaling."""
    device = meter.device
    model = stock_model(architecture).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=fused)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)  # pyright: ignore[reportPrivateImportUsage]  # torch documents this name
    batches = random_batches(architecture, batch_size=batch_size, padded_to=padded_to, device=device)
    for batch in itertools.cycle(batches):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), batch.class_ids)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if not meter.step(batch.work):
            return


@final
class RowsOfLists(torch.utils.data.Dataset[Mapping[str, Any]]):
    """Encoded flows as `Trainer` wants them."""

    def __init__(self, flows: LabelledFlows) -> None:
        self.ids = np.asarray(flows.ids).astype(np.int64)
        self.offsets, self.class_ids = np.asarray(flows.offsets), np.asarray(flows.class_ids)

    def __len__(self) -> int:
        return len(self.class_ids)

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        ids = self.ids[self.offsets[row] : self.offsets[row + 1]]
        return {"input_ids": ids, "labels": int(self.class_ids[row])}


@final
class Collator:
    """Pads a batch to its longest row, up to a multiple of 8, as tensor cores like it."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        lengths = np.array([len(row["input_ids"]) for row in rows])
        mask = np.arange(-(-int(lengths.max()) // 8) * 8) < lengths[:, None]
        ids = np.full(mask.shape, self.pad_id)
        ids[mask] = np.concatenate([row["input_ids"] for row in rows])
        labels = np.array([row["labels"] for row in rows])
        parts = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "labels": labels}
        return {name: torch.from_numpy(values) for name, values in parts.items()}


def trainer_loop(
    architecture: Architecture,
    flows: LabelledFlows,
    meter: Meter,
    *,
    batch_size: int,
    dtype: torch.dtype,
    epochs: int,
    compiled: bool,
) -> None:
    """`transformers.Trainer` with everything on that makes it fast, on the same rows."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    shapes: list[tuple[int, int]] = []
    mean_row = MeanRow.of(flows)

    class Seeing(Trainer):
        """Takes down how each step's rows are padded."""

        def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            shapes.append(tuple(inputs["input_ids"].shape))
            return super().training_step(model, inputs, *more, **named)

    class Told(TrainerCallback):
        """Counts each step, and stops when there were enough."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
            control.should_training_stop = not meter.step(mean_row.work(architecture, *shapes[-1]))
            return control

    names = inspect.signature(TrainingArguments).parameters
    by_length = (
        {"train_sampling_strategy": "group_by_length"}
        if "train_sampling_strategy" in names
        else {"group_by_length": True}
    )
    workers = min(4, len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        arguments: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": batch_size,
            "num_train_epochs": epochs or 1_000,
            "bf16": dtype == torch.bfloat16,
            "optim": "adamw_torch_fused",
            "torch_compile": compiled,
            "dataloader_num_workers": workers,
            "dataloader_persistent_workers": True,
            "dataloader_prefetch_factor": 8,
            "dataloader_pin_memory": meter.device.type == "cuda",
            "remove_unused_columns": False,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": meter.device.type == "cpu",
            **by_length,
        }
        trainer = Seeing(
            model=stock_model(architecture),
            args=TrainingArguments(**arguments),
            train_dataset=RowsOfLists(flows),
            data_collator=Collator(architecture.pad_id),
            callbacks=[Told()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
