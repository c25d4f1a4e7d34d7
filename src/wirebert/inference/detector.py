"""`Detector`: a loaded model that scores tables of flows."""

from collections.abc import Mapping
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import pyarrow as pa

from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.calibration import softmax
from wirebert.decision.drift_window import DriftWindow
from wirebert.decision.operating_point import NO_OPERATING_POINT, verdicts
from wirebert.decision.traffic_blocks import ScoredFlows, TrafficBlocks
from wirebert.encoding.matrix import extract_features
from wirebert.encoding.store import row_hashes
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.errors import ConfigError
from wirebert.inference.artifact import Artifact, load_artifact
from wirebert.inference.attribution import Attributions, explain
from wirebert.inference.backends import Backend, EngineOptions, open_backend
from wirebert.inference.cascade import CascadeBackend, Routed
from wirebert.inference.coverage import count_marked, feature_coverage, marked_tokens
from wirebert.inference.score_cache import ScoreCache, distinct_rows
from wirebert.model.config import Precision
from wirebert.shapes import Float, Float32, Float64, Int64, UInt64

CACHE_MB: Final = 64
"""Memory for cached scores of recent rows."""


@dataclass(frozen=True)
class Scores:
    """Scores of each flow of a table, in the table's order."""

    probabilities: Float[np.ndarray, "flows classes"]
    classes: tuple[str, ...]
    benign: str | None
    row_hashes: UInt64[np.ndarray, " flows"]
    """A hash of each flow's tokens: flows of equal hash look the same to the model."""
    num_truncated: int
    """Number of text values cut to their token budget."""
    threshold: float | None = None
    """Alert score from which a flow raises an alert; None: the artifact has no threshold."""
    novelty: Float64[np.ndarray, " flows"] | None = None
    """Distance of each flow to the training flows; None unless it was requested or alerts use it."""
    num_absent: Int64[np.ndarray, " flows"] | None = None
    """Number of features of each flow whose column the table lacks."""
    num_unseen: Int64[np.ndarray, " flows"] | None = None
    """Number of features of each flow with a value that training lacked, or above the training maximum."""
    num_features: int = 0
    """Number of features that the model reads."""
    novelty_threshold: float | None = None
    """Novelty from which a flow is unknown."""
    combined_alert: CombinedAlertScore | None = None
    """Combines attack score and novelty; None: alerts use the attack score alone."""

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

    @property
    def alert_score(self) -> Float[np.ndarray, " flows"] | None:
        """The score compared with the threshold: the attack score, or its combination with novelty."""
        if self.combined_alert is None or self.attack_score is None:
            return self.attack_score
        return None if self.novelty is None else self.combined_alert.scores(self.attack_score, self.novelty)

    @property
    def verdict(self) -> tuple[str, ...] | None:
        """`alert`, `pass` or `unknown` for each flow; None where the artifact has no threshold."""
        return verdicts(self.alert_score, self.threshold, self.novelty, self.novelty_threshold)

    def for_drift(self, block: JaggedRows) -> ScoredFlows:
        """What drift is measured on; `block` holds the encoded flows."""
        assert self.num_unseen is not None, "every detector counts them"
        score = self.alert_score
        is_alert = None if score is None or self.threshold is None else score >= self.threshold
        return ScoredFlows(block, self.num_unseen > 0, self.attack_score, self.novelty, is_alert)


@final
class Detector:
    """Scores typed tables (`wirebert.data.schema.conversion`) with a saved model. Threads may share one.

    Args:
        backend: inference engine. "auto" is the cascade if there is one, else the fastest export whose scores
            match PyTorch on this machine, and PyTorch on a GPU or where there is none.
        precision: numeric precision of PyTorch. "auto" is fp16 on a GPU, if it agrees with fp32 on this
            model, else fp32; bf16 is faster on processors that have it (AMX, AVX512-BF16).
        threads: CPU threads; None: all. For PyTorch it is a setting of the whole process.
        cache_mb: memory for cached scores of recent rows; 0: no cache.
        fpr: target FPR of alerts; None: the threshold of the artifact.
        novelty: whether flows that are unlike all training flows get the verdict `unknown`.
        allow_absent: whether tables may lack more than half of the features.
        community_id_seed: seed of the Community ID in verdict records.

    Raises:
        ArtifactError: the requested export gives other scores on this machine.
        ConfigError: a GPU, an export, a threshold or novelty is requested and missing.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str = "cpu",
        precision: Literal["auto"] | Precision = "auto",
        max_tokens: int | None = None,
        backend: str = "auto",
        threads: int | None = None,
        cache_mb: int = CACHE_MB,
        fpr: float | None = None,
        novelty: bool = False,
        allow_absent: bool = False,
        community_id_seed: int = 0,
    ) -> None:
        self.artifact = artifact
        self.allow_absent, self.fpr = allow_absent, fpr
        if not 0 <= community_id_seed < 1 << 16:
            raise ConfigError(f"--community-id-seed must be from 0 to 65535, got {community_id_seed}")
        self.community_id_seed = community_id_seed
        self.device = choose_device(device)
        self.rejected_backends: dict[str, str] = {}
        """Engines and precisions that "auto" did not use, and why."""
        self._limits = thresholds_for(artifact, fpr=fpr, novelty=novelty)
        self._combined_alert = (
            None if artifact.operating_point is None else artifact.operating_point.alert_score
        )
        self.novelty_scorer = artifact.novelty if novelty or self._combined_alert is not None else None
        """Scores the novelty of flows; None: no verdict uses it."""
        if threads is not None and threads < 1:
            raise ConfigError(f"--threads must be at least 1, got {threads}")
        options = EngineOptions(
            device=self.device,
            precision=precision,
            threads=threads,
            max_tokens=max_tokens,
            on_rejection=self.rejected_backends.__setitem__,
        )
        self.drift: DriftWindow | TrafficBlocks | None = None
        """Counts what `score` scores; see `watch_drift`."""
        self._backend: Backend = open_backend(backend, artifact, options)
        tokenizer = artifact.tokenizer
        self._is_absent, self._is_unseen = marked_tokens(tokenizer)
        self._cache_mb = cache_mb
        self.forget()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        precision: Literal["auto"] | Precision = "auto",
        backend: str = "auto",
        threads: int | None = None,
        cache_mb: int = CACHE_MB,
        fpr: float | None = None,
        novelty: bool = False,
        allow_absent: bool = False,
        community_id_seed: int = 0,
    ) -> "Detector":
        """The detector saved in `folder`, on `device` ("auto" takes a GPU if there is one).

        Raises:
            ArtifactError: a file in it is missing, truncated or changed.
            ConfigError: a GPU, an export, a threshold or novelty is requested and missing.
        """
        return cls(
            load_artifact(Path(folder)),
            device=device,
            precision=precision,
            backend=backend,
            threads=threads,
            cache_mb=cache_mb,
            fpr=fpr,
            novelty=novelty,
            allow_absent=allow_absent,
            community_id_seed=community_id_seed,
        )

    def forget(self) -> None:
        """Start with an empty cache, so that scores depend on no earlier row, not even in rounding."""
        tokenizer = self.artifact.tokenizer
        longest_row = 1 + len(tokenizer.slots) + len(tokenizer.text_columns) * tokenizer.text_budget
        self._cache = (
            ScoreCache(longest_row=longest_row, num_classes=len(self.classes), size_mb=float(self._cache_mb))
            if self._cache_mb
            else None
        )

    @property
    def backend(self) -> str:
        """The inference engine."""
        return self._backend.name

    @property
    def threshold(self) -> float | None:
        """Alert score from which a flow raises an alert; None without one."""
        return self._limits[0]

    @property
    def schema(self) -> FlowSchema:
        """The columns that the model reads; a table may lack some of them."""
        return self.artifact.schema

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of `Scores.predict_proba`."""
        return self.artifact.classes.classes

    @property
    def cache_counts(self) -> tuple[int, int]:
        """Distinct rows that were found in the cache, and those that were looked for."""
        return (0, 0) if self._cache is None else (self._cache.num_found, self._cache.num_sought)

    @property
    def routed(self) -> Routed | None:
        """What a cascade computed so far; None without one."""
        return self._backend.counts if isinstance(self._backend, CascadeBackend) else None

    @property
    def num_parameters(self) -> int:
        """Number of weights of the model, from its architecture alone."""
        return self.artifact.architecture.num_parameters

    def score(self, table: pa.Table, block: JaggedRows | None = None) -> Scores:
        """Scores of each row of a typed table; `block` is the result of `encode` for it, if there is one.

        Columns are matched by name. A feature that the table lacks is `<absent>`, other columns are ignored,
        and a table without rows has scores without rows.

        Raises:
            SchemaError: the table has fewer than half of the features, and that is not allowed.
        """
        block = self.encode(table) if block is None else block
        scores = self.score_encoded(block)
        if self.novelty_scorer is not None:
            novelty = self.novelty_scorer.scores(extract_features(table, self.schema))
            scores = replace(scores, novelty=novelty)
        if self.drift is not None:
            self.drift.add(scores.for_drift(block))
        return scores

    def watch_drift(self) -> None:
        """From now on, compare the flows that are scored with the drift reference, if there is one."""
        if self.artifact.reference is not None:
            self.drift = DriftWindow(self.artifact.reference, self.artifact.tokenizer)

    def drift_status(self) -> Mapping[str, object]:
        """What metrics tell of the flows scored lately; nothing unless drift is watched."""
        return self.drift.status() if isinstance(self.drift, DriftWindow) else {}

    def encode(self, table: pa.Table) -> JaggedRows:
        """Token ids of each row of a typed table: the first half of `score`, to overlap the two."""
        if table.num_rows and not self.allow_absent:
            feature_coverage(self.schema, table.column_names, "table").require()
        return self.artifact.tokenizer.encode(table)

    def score_encoded(self, block: JaggedRows) -> Scores:
        """Scores of encoded rows."""
        hashes = row_hashes(block)
        return Scores(
            probabilities=softmax(self._logits(block, hashes)),
            classes=self.classes,
            benign=self.artifact.classes.benign,
            row_hashes=hashes,
            num_truncated=block.num_truncated,
            num_absent=count_marked(self._is_absent, block),
            num_unseen=count_marked(self._is_unseen, block),
            num_features=len(self.artifact.tokenizer.slots),
            threshold=self._limits[0],
            novelty_threshold=self._limits[1],
            combined_alert=self._combined_alert,
        )

    def explain(self, table: pa.Table, class_ids: Int64[np.ndarray, " flows"] | None = None) -> Attributions:
        """Contribution of each feature to a class of each row (None: the most probable one)."""
        block = self.encode(table)
        return self.explain_encoded(
            block, self.score_encoded(block).class_ids if class_ids is None else class_ids
        )

    def explain_encoded(self, block: JaggedRows, class_ids: Int64[np.ndarray, " flows"]) -> Attributions:
        """Contribution of each feature of encoded rows to these classes; equal rows are explained once."""
        distinct = distinct_rows(block, row_hashes(block))
        pairs = distinct.numbers * len(self.classes) + class_ids
        _, rows, numbers = np.unique(pairs, return_index=True, return_inverse=True)
        unique = explain(self.logits, self.artifact.tokenizer, take_rows(block, rows), class_ids[rows])
        return Attributions(unique.contributions[numbers], unique.tokens[numbers], class_ids)

    def logits(self, block: JaggedRows) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of each encoded row without the cache; equal rows are computed once."""
        distinct = distinct_rows(block, row_hashes(block))
        return self._backend.logits(take_rows(block, distinct.rows))[distinct.numbers]

    def _logits(
        self, block: JaggedRows, hashes: UInt64[np.ndarray, " flows"]
    ) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of each row; equal rows are computed once, and cached rows not at all."""
        distinct = distinct_rows(block, hashes)
        rows, hashes = take_rows(block, distinct.rows), hashes[distinct.rows]
        if self._cache is None:
            return self._backend.logits(rows)[distinct.numbers]
        is_known, logits = self._cache.find(rows, hashes)
        new = np.flatnonzero(~is_known)
        if len(new):
            some = take_rows(rows, new)
            logits[new] = self._backend.logits(some)
            self._cache.add(some, hashes[new], logits[new])
        return logits[distinct.numbers]


def thresholds_for(
    artifact: Artifact, *, fpr: float | None, novelty: bool
) -> tuple[float | None, float | None]:
    """The alert threshold and the novelty threshold; None for one that the artifact lacks.

    Raises:
        ConfigError: the artifact has no such threshold.
    """
    operating = artifact.operating_point or NO_OPERATING_POINT
    if novelty and (artifact.novelty is None or not operating.novelty_thresholds):
        raise ConfigError(
            "--novelty needs a model trained with decision.novelty_reference_flows above 0; train it again"
        )
    return operating.threshold_at(fpr), operating.novelty_threshold_at(fpr) if novelty else None


def choose_device(name: str) -> str:
    """The device: `name`, or for "auto" a GPU if there is one and PyTorch is installed, else the CPU.

    Raises:
        ConfigError: a GPU is requested but there is none.
    """
    if name == "cpu":
        return name
    has_gpu = has_gpu_driver() and _torch_finds_gpu()
    if name == "auto":
        return "cuda" if has_gpu else "cpu"
    if name.startswith("cuda") and not has_gpu:
        raise ConfigError(f"--device must be auto or cpu on a machine without a CUDA GPU, got {name!r}")
    return name


def has_gpu_driver() -> bool:
    """Whether a GPU driver is installed. Without one there is no GPU, and PyTorch need not be imported."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            CDLL(library)
            return True
    return Path("/dev/kfd").exists()


def _torch_finds_gpu() -> bool:
    try:
        from wirebert.inference.torch_backend import has_gpu
    except ImportError:
        return False
    return has_gpu()
