"""`Detector`: a model folder in memory, scoring tables of flows."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64, UInt64

from wirebert.data.schema import FlowSchema
from wirebert.encoding.overlap import row_hashes
from wirebert.errors import ConfigError
from wirebert.model.batches import Precision, score
from wirebert.model.checkpoints import load_hugging_face_state
from wirebert.model.distilbert import DistilBert
from wirebert.serving.artifact import Artifact, load_artifact


@dataclass(frozen=True)
class Scores:
    """What the detector says about each flow of a table, in the table's order."""

    probabilities: Float[np.ndarray, "flows classes"]
    classes: tuple[str, ...]
    benign: str | None
    row_hashes: UInt64[np.ndarray, " flows"]
    """A hash of each flow's tokens: flows of equal hash look the same to the model."""
    num_truncated: int
    """Text values cut to their budget."""

    @property
    def class_ids(self) -> Int64[np.ndarray, " flows"]:
        """Index of the most probable class."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @property
    def attack_score(self) -> Float[np.ndarray, " flows"] | None:
        """1 - P(benign); None where no class is known to be benign."""
        if self.benign is None:
            return None
        return 1.0 - self.probabilities[:, self.classes.index(self.benign)]


@final
class Detector:
    """Scores typed tables (see `wirebert.data.conversion`) with a saved model; several threads may share one."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
        max_tokens: int = 16_384,
    ) -> None:
        self.artifact = artifact
        self.device = choose_device(device)
        self.precision: Precision = precision
        self.max_tokens = max_tokens
        model = DistilBert(artifact.architecture)
        load_hugging_face_state(model, artifact.weights, where="model.safetensors")
        self._model = model.to(self.device).eval()

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", precision: Precision = "fp32") -> "Detector":
        """The detector saved in `folder`, on `device` ("auto" takes a GPU if there is one).

        Raises:
            ArtifactError: a file in it is missing, truncated or changed.
            ConfigError: a GPU is asked for where there is none.
        """
        return cls(load_artifact(Path(folder)), device=device, precision=precision)

    @property
    def schema(self) -> FlowSchema:
        """The columns it reads; a table may lack some of them."""
        return self.artifact.schema

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it tells apart, in the order of `Scores.probabilities`."""
        return self.artifact.classes.classes

    @property
    def num_parameters(self) -> int:
        """Weights of the model."""
        return sum(weight.numel() for weight in self._model.parameters())

    def score(self, table: pa.Table) -> Scores:
        """Class probabilities of each row of a typed table.

        Columns are found by name. A feature that the table lacks is `<absent>`, columns of other names are passed over,
        and a table without rows has scores without rows.
        """
        block = self.artifact.tokenizer.encode(table)
        logits = score(
            self._model, block, device=self.device, precision=self.precision, max_tokens=self.max_tokens
        )
        return Scores(
            probabilities=_softmax(logits.astype(np.float64)),
            classes=self.classes,
            benign=self.artifact.classes.benign,
            row_hashes=row_hashes(block),
            num_truncated=block.num_truncated,
        )


def choose_device(name: str) -> str:
    """Where to compute: `name`, or for "auto" a GPU if there is one.

    Raises:
        ConfigError: a GPU is asked for where there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device must be auto or cpu on a machine without a CUDA GPU, got {name!r}")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _softmax(logits: Float[np.ndarray, "flows classes"]) -> Float[np.ndarray, "flows classes"]:
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)
