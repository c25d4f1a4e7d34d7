"""The rows of a training file as token ids, under any settings. Needs neither what draws plots nor what writes recipes."""

import os
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.loading import Flows, open_flows
from wirebert.data.synthetic import write_csv
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.architecture import ModelConfig
from wirebert.model.checkpoints import build
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.settings import from_mapping, merge
from wirebert.training.corruption import Corruption
from wirebert.training.settings import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The sections of a recipe that decide how fast a step is."""

    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    """Tokens."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """The steps."""

    @classmethod
    def read(cls, assignments: Sequence[str]) -> "Settings":
        """From `section.name=value`, as `--set` of `wirebert train` takes it; later ones win.

        >>> Settings.read(["model.size=mini", "training.batch_size=64"]).training.batch_size
        64
        """
        values: dict[str, object] = {}
        for assignment in assignments:
            name, _, text = assignment.partition("=")
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text
            section, _, name = name.partition(".")
            values = merge(values, {section: {name: value}})
        return from_mapping(cls, values)


class Data(NamedTuple):
    """Encoded flows, and what a model must know of them."""

    settings: Settings
    tokenizer: FlowTokenizer
    classes: tuple[str, ...]
    flows: EncodedFlows

    def model(self) -> DistilBert:
        """A new model for these flows."""
        return build(self.settings.model, TokenLayout.of(self.tokenizer), classes=self.classes, seed=1)

    def corruption(self, config: TrainConfig) -> Corruption:
        """How training shows these flows: as `wirebert train` does."""
        return Corruption.of(self.tokenizer, config)


class Rows:
    """The labelled rows of a file, encoded once for each set of settings that asks for other tokens."""

    def __init__(self, path: Path, num_rows: int = 0) -> None:
        """`num_rows` takes only so many of the file's rows, 0 all."""
        self.flows = open_flows(path)
        self._num_rows = num_rows
        self._classes = _classes(self.flows)
        self._encoded: dict[EncodingConfig, tuple[FlowTokenizer, EncodedFlows]] = {}

    def data(self, assignments: Sequence[str]) -> Data:
        """The rows under these settings."""
        settings = Settings.read(assignments)
        if settings.encoding not in self._encoded:
            self._encoded[settings.encoding] = self._encode(settings.encoding)
        tokenizer, flows = self._encoded[settings.encoding]
        return Data(settings, tokenizer, self._classes.classes, flows)

    def _encode(self, config: EncodingConfig) -> tuple[FlowTokenizer, EncodedFlows]:
        label = self.flows.require_label()
        tokenizer = FlowTokenizer.fit(self.flows.schema, self.flows.blocks(), config)
        ids: list[np.ndarray] = []
        lengths: list[np.ndarray] = [np.zeros(1, np.int64)]
        class_ids: list[np.ndarray] = []
        for table in self.flows.blocks():
            block = tokenizer.encode(table)
            ids.append(np.asarray(block.ids))
            lengths.append(np.diff(block.offsets))
            class_ids.append(self._classes.encode(table.column(label)))
        offsets = np.cumsum(np.concatenate(lengths))
        num_rows = min(self._num_rows or len(offsets), len(offsets) - 1)
        all_ids = np.concatenate(ids)[: offsets[num_rows]].astype(tokenizer.dtype)
        flows = EncodedFlows.from_arrays(
            all_ids, offsets[: num_rows + 1], np.concatenate(class_ids)[:num_rows], np.arange(num_rows)
        )
        return tokenizer, flows


def _classes(flows: Flows) -> ClassMap:
    label = flows.require_label()
    counts: Counter[str] = Counter()
    for table in flows.blocks():
        counts.update(map(str, table.column(label).drop_null().to_pylist()))
    return fit_classes(flows.schema, counts)


def training_file(folder: Path, generated_rows: int) -> Path:
    """NSL-KDD's from the folder in WIREBERT_DATA (../shared/data without it), else generated traffic in `folder`."""
    data = Path(os.environ.get("WIREBERT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    train = data / "nsl-kdd" / "KDDTrain+.txt.gz"
    if train.is_file():
        return train
    path = folder / "generated.csv"
    write_csv(path, generated_rows, 0)
    return path
