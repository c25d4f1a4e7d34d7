"""`Detector`: a trained model that gives verdicts on tables and files."""

import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from inspect import currentframe
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np
import pyarrow as pa

from wirebert.api.evaluation import Evaluation
from wirebert.api.tables import Table, TrafficSource
from wirebert.api.traffic import TrafficData, traffic_source
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.errors import ConfigError, FindingWarning, RunError
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector as Scorer
from wirebert.inference.engines import CASCADE
from wirebert.inference.predictions import open_writer, predict_blocks
from wirebert.report.html.notebook import html_of_facts
from wirebert.report.report import read_json
from wirebert.run_folder import RunFolder, model_folder
from wirebert.shapes import Float64


class _Reading(NamedTuple):
    """Traffic that a detector scores."""

    source: TrafficSource
    flows: Flows
    fit: TrafficFit


@final
class Detector:
    """A trained detector; `wirebert.train` and `wirebert.load` give one.

    Data is a path, a pattern, a pandas, polars or Arrow table, a list of records, or what `wirebert.open`
    gave. Columns are matched by name, as in files. Data with fewer than half of the features is refused, and
    what is noticed about it is a `FindingWarning`.
    """

    def __init__(self, scorer: Scorer, *, folder: Path | None = None) -> None:
        self.scorer = scorer
        """The same for the functions behind the commands: engine, schema, thresholds."""
        self.folder = folder
        """The model folder; None: it is not saved."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, the benign one first if it is known: the columns of `predict_proba`."""
        return self.scorer.classes

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that the model reads."""
        return tuple(column.name for column in self.scorer.schema.features)

    @property
    def artifact(self) -> Artifact:
        """The model itself: weights, tokenizer, classes, thresholds, provenance."""
        return self.scorer.artifact

    def predict(
        self,
        data: TrafficData,
        *,
        out: str | Path | None = None,
        explain: Literal["alerts", "all"] | None = None,
    ) -> Table:
        """One verdict per flow, in order, with the columns of docs/verdicts.md.

        Args:
            out: a new .csv, .jsonl or .parquet file for verdicts on data of any size; its path is returned.
            explain: adds the main evidence, for alerts or for all flows.

        Returns:
            The kind of table that was given, with its index; an Arrow table for files.

        Raises:
            SchemaError: fewer than half of the features are present.
            DataError: the data cannot be read, or `out` exists.
        """
        if out is not None:
            with open_writer(Path(out)) as writer, self._verdicts(data, explain) as (_, tables):
                for table in tables:
                    writer.write(table)
            return Path(out)
        with self._verdicts(data, explain) as (source, tables):
            return source.alike(pa.concat_tables(list(tables)))

    def predict_batches(
        self, data: TrafficData, *, explain: Literal["alerts", "all"] | None = None
    ) -> Iterator[Table]:
        """The same block by block, for data that is larger than memory."""
        with self._verdicts(data, explain) as (source, tables):
            for table in tables:
                yield source.alike(table, table["row"].to_numpy())

    def predict_proba(self, data: TrafficData) -> Float64[np.ndarray, "flows classes"]:
        """The probability of each class for each flow, in the order of `classes`."""
        parts = [np.empty((0, len(self.classes)))]
        with self._reading(data) as (_, flows, fit):
            for table in flows.blocks(fit.invalid_values):
                block = self.scorer.encode(table)
                fit.add(table, block)
                parts.append(self.scorer.score_encoded(block).probabilities.astype(np.float64))
        return np.concatenate(parts)

    def explain(self, data: TrafficData, *, class_name: str | None = None) -> Table:
        """The contribution of each feature to a class of each flow, in nats of its log-odds.

        Each flow costs about as much as a hundred verdicts.

        Args:
            class_name: the class to explain; None: the predicted one.

        Returns:
            The kind of table that was given: `class`, then a column for each feature.
        """
        if class_name is not None and class_name not in self.classes:
            raise ConfigError(f"class_name must be one of {', '.join(self.classes)}, got {class_name!r}")
        names = [slot.name for slot in self.artifact.tokenizer.slots]
        parts: list[pa.Table] = []
        with self._reading(data) as (source, flows, fit):
            for table in flows.blocks(fit.invalid_values):
                wanted = (
                    None
                    if class_name is None
                    else np.full(table.num_rows, self.classes.index(class_name), np.int64)
                )
                found = self.scorer.explain(table, wanted)
                explained = pa.array(self.classes).take(pa.array(found.class_ids, pa.int64()))
                columns = [pa.array(column) for column in found.contributions.T]
                parts.append(pa.Table.from_arrays([explained, *columns], names=["class", *names]))
            return source.alike(pa.concat_tables(parts))

    def evaluate(
        self,
        data: TrafficData,
        *,
        label: str | None = None,
        label_map: Mapping[str, str] | None = None,
        benign: str | None = None,
    ) -> Evaluation:
        """Metrics on labelled flows, with intervals.

        Args:
            label: the label column; None: that of the training data.
            label_map: label -> class, where labels are not those of the model.
            benign: the label that means "no attack".

        Raises:
            SchemaError: there is no label column.
            DataError: no flow has a label of a known class.
        """
        from wirebert.workflows.evaluate import evaluate_flows
        from wirebert.workflows.report import called_as

        schema = self.scorer.schema if label is None else self.scorer.schema.labelled_by(label)
        with traffic_source(data) as source, called_as("detector.evaluate(...)"):
            flows = open_flows(source.path, self._config, schema=schema)
            report = evaluate_flows(
                self.scorer,
                flows,
                data=source.path,
                model=self.folder,
                label_map=label_map,
                benign=benign,
                tell=tell,
            )
        return Evaluation(report)

    def report(self) -> Evaluation:
        """The report of the run that trained it.

        Raises:
            RunError: the model does not lie in the folder of its run.
        """
        run = None if self.folder is None else RunFolder(self.folder.absolute().parent)
        if run is None or not run.report_json.exists():
            raise RunError(
                "report() needs the run that trained this detector, found a model alone; load the run "
                "folder, or call evaluate(data)"
            )
        return Evaluation(read_json(run.report_json), run.report_html)

    def calibrate(
        self,
        data: TrafficData,
        *,
        alerts_per_day: float | None = None,
        alerts_per_10000: float | None = None,
        incidents_per_day: float | None = None,
        days: float | None = None,
        prior: Mapping[str, float] | Literal["estimate"] | None = None,
    ) -> "Detector":
        """A detector whose threshold keeps the alerts on this unlabelled traffic within a budget.

        Args:
            days: days that the traffic spans; None: computed from its times.
            prior: class -> its share in this traffic, or "estimate".

        Raises:
            ConfigError: there is no budget, or no class is benign.
            DataError: there are too few flows for one alert, or no times.
        """
        from wirebert.workflows.calibrate import AlertBudgetRequest, fit_alert_budget

        if [alerts_per_day, alerts_per_10000, incidents_per_day].count(None) != 2:
            raise ConfigError(
                "expected one of alerts_per_day, incidents_per_day and alerts_per_10000; give one of them"
            )
        shares = {} if prior is None or isinstance(prior, str) else prior
        request = AlertBudgetRequest(
            per_day=alerts_per_day,
            per_10000=alerts_per_10000,
            incidents_per_day=incidents_per_day,
            days=days,
            prior=tuple(f"{name}={share}" for name, share in shares.items()),
            estimates_prior=prior == "estimate",
        )
        known = replace(self.artifact, exports={}) if prior else self.artifact
        # A threshold belongs to the scores that it is fitted on, and those of a cascade are others.
        backend = CASCADE if CASCADE in known.exports else "torch"
        allow_absent = self.scorer.allow_absent
        with self._reading(data) as (_, flows, fit):
            exact = Scorer(known, backend=backend, precision="fp32", allow_absent=allow_absent)
            artifact = fit_alert_budget(exact, flows, request, fit)
        return Detector(Scorer(artifact, backend=backend, allow_absent=allow_absent))

    def save(self, folder: str | Path) -> Path:
        """Write the model folder, as `wirebert train` does, with its exports or a new one; returns its path.

        Raises:
            ArtifactError: the folder holds something else, or cannot be written.
        """
        from wirebert.inference.export import add_default_export
        from wirebert.workflows.model_card import model_card

        path = Path(folder)
        run = None if self.folder is None else RunFolder(self.folder.parent)
        report = read_json(run.report_json) if run is not None and run.report_json.exists() else None
        card = model_card(self.artifact, report)
        kept = save_artifact(self.artifact, path, card=card, with_exports=True)
        if not {*kept} - {CASCADE} and (reason := add_default_export(path)) is not None:
            warnings.warn(f"no ONNX export was written: {reason}", FindingWarning, stacklevel=2)
        return path

    def push_to_hub(self, repo: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the model to the Hugging Face hub; returns its address there.

        What is uploaded holds no addresses, names, times, payloads or rows of traffic, nor local paths.

        Raises:
            ArtifactError: the model holds such values.
        """
        from wirebert.api.hub import push

        return push(self.artifact, repo, private=private, token=token)

    @property
    def _config(self) -> DataConfig:
        return DataConfig(allow_absent=self.scorer.allow_absent)

    @contextmanager
    def _reading(self, data: TrafficData) -> Generator[_Reading]:
        """The data under the schema of the model; findings are told before and after."""
        with traffic_source(data) as source:
            flows = open_flows(
                source.path, self._config, schema=self.scorer.schema, can_be_empty=source.is_table
            )
            fit = TrafficFit.of(self.artifact.tokenizer, flows)
            tell(fit.opened)
            yield _Reading(source, flows, fit)
            tell(fit.scored)

    @contextmanager
    def _verdicts(
        self, data: TrafficData, explained: Literal["alerts", "all"] | None
    ) -> Generator[tuple[TrafficSource, Iterator[pa.Table]]]:
        """The tables of verdicts of the data."""
        if (operating := self.artifact.operating_point) is not None:
            tell(operating.findings(self.scorer.fpr))
        with (
            self._reading(data) as (source, flows, fit),
            closing(predict_blocks(self.scorer, flows, fit, explained=explained)) as tables,
        ):
            yield source, tables

    def __repr__(self) -> str:
        return (
            f"Detector({len(self.features)} features, {self.scorer.num_parameters:,} weights, classes "
            f"{', '.join(self.classes)})"
        )

    def _repr_html_(self) -> str:  # pyright: ignore[reportUnusedFunction]
        operating = self.artifact.operating_point
        threshold = None if operating is None else operating.threshold_at(self.scorer.fpr)
        facts = {
            "classes": ", ".join(self.classes),
            "benign": self.artifact.classes.benign or "unknown",
            "features": ", ".join(self.features),
            "weights": f"{self.scorer.num_parameters:,}",
            "alert threshold": "none" if threshold is None else f"{threshold:.6g}",
            "engine": f"{self.scorer.backend} on {self.scorer.device}",
            "folder": str(self.folder or "not saved"),
        }
        return html_of_facts("Detector", facts)


def load(
    folder: str | Path,
    *,
    device: str = "cpu",
    backend: str = "auto",
    threads: int | None = None,
    fpr: float | None = None,
    novelty: bool = False,
    allow_absent: bool = False,
) -> Detector:
    """The detector in a model folder or in the folder of its run.

    Args:
        device: cpu, cuda or auto.
        backend: inference engine; "auto" is the fastest export that matches PyTorch.
        threads: CPU threads; None: all.
        fpr: target false positive rate of alerts, in [0, 1]; None: as stored.
        novelty: give flows unlike all training flows the verdict `unknown`.
        allow_absent: accept data with fewer than half of the features.

    Raises:
        ArtifactError: a file is missing, truncated or changed.
        ConfigError: a GPU, an export, a threshold or novelty is requested and missing.
    """
    path = model_folder(Path(folder))
    scorer = Scorer.load(
        path,
        device=device,
        backend=backend,
        threads=threads,
        fpr=fpr,
        novelty=novelty,
        allow_absent=allow_absent,
    )
    return Detector(scorer, folder=path)


def tell(findings: Iterable[Finding]) -> None:
    """A warning for each finding that is not accepted, at the line of the user that asked."""
    level, own, frame = 1, 1, currentframe()
    while frame is not None:
        own = level if frame.f_globals.get("__name__", "").startswith("wirebert.") else own
        level, frame = level + 1, frame.f_back
    for one in findings:
        if not one.is_accepted:
            warnings.warn(f"{one.code}: {one.message}", FindingWarning, stacklevel=own + 1)
