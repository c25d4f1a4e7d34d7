"""The model card: `README.md` of the model folder, in the form that model hubs show.

Everything in it comes from the artifact and from the report of its run.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from huggingface_hub import EvalResult, ModelCardData

from wirebert.inference.artifact import Artifact
from wirebert.metrics.registry import METRICS, headline_titles
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.student_gap import GAP_HEAD, gap_remarks, gap_rows
from wirebert.report.report import Report
from wirebert.report.tables import markdown
from wirebert.report.terminal import class_rows, format_file_usage, metric_rows, split_remarks

TAGS = ["intrusion-detection", "network-traffic", "distilbert", "wirebert"]


def model_card(artifact: Artifact, report: Report | None = None) -> str:
    """The card as Markdown under a metadata header; without the report of its run it has no metrics yet."""
    sections = [
        f"---\n{_metadata(artifact, report).to_yaml()}\n---",
        f"# {_title(artifact, report)}",
        "A DistilBERT classifier of network flows, one token per feature, under the schema "
        f"{_code(artifact.schema.name)} ({len(artifact.schema.features)} features). "
        f"Classes: {', '.join(map(_cell, artifact.classes.classes))}."
        f"{distillation_facts(artifact.origin)}",
        _use(artifact),
        _alerts(artifact),
        _intended(artifact),
        _limits(report),
    ]
    if report is not None:
        sections += [_training_data(report), _evaluation(report), _origin(report)]
    return "\n\n".join(section for section in sections if section) + "\n"


def learned_card(artifact: Artifact, split: str) -> str:
    """The card of a detector that `wirebert learn` made of unlabelled traffic."""
    sections = [
        f"---\n{_metadata(artifact, None).to_yaml()}\n---",
        f"# {_title(artifact, None)}",
        "A DistilBERT that scores how unusual network flows are, one token per feature, under the schema "
        f"{_code(artifact.schema.name)} ({len(artifact.schema.features)} features). It was trained without "
        "labels: its class `unusual` is a rank among the flows that it learned from, and no probability of "
        "an attack.",
        _use(artifact),
        _alerts(artifact),
        "## Limits\n\n"
        "- Unusual is not malicious, and an attack that looks like the traffic it learned from is not found. "
        "Review the first alerts before you act on them.\n"
        "- It knows one network at one time. Run `wirebert learn` again, or `wirebert calibrate`, when the "
        f"traffic changes.\n- {_cell(split)}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(artifact: Artifact, report: Report | None) -> ModelCardData:
    splits = {} if report is None else report.splits
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Intrusion detection",
            dataset_type=artifact.schema.name,
            dataset_name=artifact.schema.name,
            dataset_split=name,
            metric_type=metric.hub_type,
            metric_name=metric.title,
            metric_value=round(split.headline[metric.key], 6),
        )
        for name, split in splits.items()
        for metric in METRICS.values()
        if metric.hub_type is not None and metric.key in split.headline
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=TAGS,
        base_model=base_model(artifact.origin),
        datasets=[artifact.schema.name],
        metrics=["accuracy", "f1"],
        model_name=_title(artifact, report) if results else None,
        eval_results=results or None,
    )


def base_model(origin: Mapping[str, object]) -> str | None:
    """The checkpoint that training started from, if there was one; for a local folder, its name."""
    start = _settings(origin, "model").get("init_from", "scratch")
    if not isinstance(start, str) or start == "scratch":
        return None
    return Path(start).name if Path(start).exists() else start


def distillation_facts(origin: Mapping[str, object]) -> str:
    """A sentence on the teacher that was fitted on the training flows; empty without one."""
    how = _settings(origin, "distillation")
    teachers = {
        "gbdt": ("boosted trees", "columns"),
        "text_svm": ("a linear SVM on character n-grams", "text"),
    }
    mixed = cast(float, how.get("augmentation_factor", 0.0))
    for name, (teacher, what) in teachers.items():
        if how.get("teacher") == name:
            more = f", with {mixed:g} synthetic flows of mixed {what} per training flow" if mixed else ""
            return f" It is distilled from {teacher}, fitted on the same flows{more}."
    return ""


def _settings(origin: Mapping[str, object], section: str) -> Mapping[str, object]:
    return cast(Mapping[str, Mapping[str, object]], origin.get("settings", {})).get(section, {})


def _title(artifact: Artifact, report: Report | None) -> str:
    return f"Intrusion detector {report.name if report else artifact.schema.name}"


def _use(artifact: Artifact) -> str:
    features = [column.name for column in artifact.schema.features][:2]
    fields = ascii(", ".join(f"{name}:0" for name in features))  # a name may end a text or a line
    return f"""## Use

With wirebert, on a file of flows; columns are found by name:

```bash
wirebert predict MODEL flows.csv --out verdicts.csv
```

With stock `transformers`. The model reads canonical text, which wirebert's tokenizer writes:

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from wirebert.inference.detector import Detector

encoder = Detector.load("MODEL").artifact.tokenizer
text = encoder.to_text(encoder.encode_key_values([{fields}]).ids)

tokenizer = AutoTokenizer.from_pretrained("MODEL")
model = AutoModelForSequenceClassification.from_pretrained("MODEL")
probabilities = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
print({{model.config.id2label[i]: round(p, 3) for i, p in enumerate(probabilities.tolist())}})
```"""


def _alerts(artifact: Artifact) -> str:
    """The alert thresholds of the model, and how certain their false positive rates are."""
    operating = artifact.operating_point
    if operating is None or operating.threshold_at(None) is None:
        return ""
    score = f"attack score (1 - P({_cell(str(artifact.classes.benign))}))"
    if operating.alert_score is not None:
        score = (
            f"alarm score (the surprise of {score} and of novelty on benign validation flows in nats, summed)"
        )
    lines = [f"It raises an alert at an {score} of {operating.threshold_at(None):.6g}."]
    for one in operating.thresholds:
        low, high = one.fpr_interval
        doubt = "" if one.is_trusted else "; too few different benign validation flows to trust this rate"
        lines.append(
            f"At {one.threshold:.6g}, {one.num_false_positives:,} of {one.num_benign:,} benign validation "
            f"flows do: {low:.3%} to {high:.3%} (aim {one.target_fpr:.2%}){doubt}."
        )
    lines += [f"{_cell(note)}." for note in operating.notes]
    return "## Alerts\n\n" + "\n".join(f"- {line}" for line in lines)


def _intended(artifact: Artifact) -> str:
    benign = artifact.classes.benign
    score = f" The attack score is 1 - P({_cell(benign)})." if benign else ""
    return (
        "## Intended use\n\nTo rank and label recorded flows for analysts, on traffic "
        f"like that of training.{score} It is not meant to block traffic by itself, nor to judge people."
    )


def _limits(report: Report | None) -> str:
    lines = [
        "It learns attacks from labels: a flow unlike anything in training still gets a known class.",
        "It sees one flow at a time; a pattern across many flows has to be in a column.",
        "Metrics on the capture it was trained on say little about another network. Evaluate on your own "
        "traffic first (`wirebert evaluate MODEL DATA`), and set the threshold there.",
    ]
    for name, split in {} if report is None else report.splits.items():
        if split.classes_not_in_training:
            names = ", ".join(map(_cell, split.classes_not_in_training))
            lines.append(f"Classes of {_cell(name)} that training lacks, always wrong: {names}.")
    findings = () if report is None else report.data.findings
    lines += [
        f"Training data, {finding.severity}{f' ({_cell(finding.column)})' if finding.column else ''}: "
        f"{_cell(finding.message)}."
        for finding in findings
        if finding.severity != "info"
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _training_data(report: Report) -> str:
    data = report.data
    files = ", ".join(_code(Path(file).name) for file in data.files)
    lines = [f"## Training data\n\nFiles: {files} ({_cell(data.detected)}). {_cell(data.split)}"]
    splits = list(data.distribution)
    names = dict.fromkeys(row.name for classes in data.distribution.values() for row in classes)
    rows = [
        [
            _cell(name),
            *(
                next((f"{row.num_flows:,}" for row in data.distribution[split] if row.name == name), "-")
                for split in splits
            ),
        ]
        for name in names
    ]
    return "\n\n".join([*lines, markdown(["class", *map(_cell, splits)], rows)])


def _evaluation(report: Report) -> str:
    blocks = ["## Evaluation\n\nIn brackets: 95 % bootstrap CI over flows."]
    for name, split in report.splits.items():
        methods = report.methods(name)
        blocks.append(f"### {_cell(name)}: {split.num_flows:,} flows")
        head = ["metric", "this model", *list(methods)[1:]]
        blocks.append(markdown(head, metric_rows(methods.values())))
        blocks += [_class_table(split), _teacher(report, name)]
        remarks = [
            _cell(line)
            for line in [*split_remarks(split), *format_file_usage(report.data.test_usage.get(name))]
        ]
        blocks.append(" ".join(remarks))
    return "\n\n".join(block for block in blocks if block)


def _teacher(report: Report, split: str) -> str:
    """The model compared with the one it was distilled from; empty without one."""
    if report.teacher is None or split not in report.teacher.splits:
        return ""
    rows = gap_rows(report.teacher.splits[split], headline_titles())
    remarks = [
        f"Distilled from {_code(Path(report.teacher.teacher).name)} ({report.teacher.teacher_parameters:,} "
        "weights).",
        *gap_remarks(report.teacher, split),
    ]
    return "\n\n".join([markdown(list(GAP_HEAD), rows), " ".join(remarks)])


def _class_table(split: SplitMetrics) -> str:
    rows = [(_cell(name), *figures) for name, *figures in class_rows(split)]
    return markdown(["class", "flows", "precision", "recall", "F1"], rows)


def _origin(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    fence = _fence(report.command, 3)
    machine = ", ".join(report.hardware.gpus) or f"{report.hardware.cpu}, {report.hardware.num_cores} cores"
    return (
        f"## How it was made\n\n{fence}bash\n{report.command}\n{fence}\n\nSeed {report.seed}; "
        f"{_cell(versions)}; {_cell(machine)}. `wirebert.json` holds every setting "
        "and the sha256 of each file."
    )


def _cell(text: str) -> str:
    """A text from the data, escaped so that it cannot break out of its Markdown cell.

    >>> _cell("<b>dos|x")
    '&lt;b>dos\\\\|x'
    """
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ").replace("`", "&#96;")


def _code(text: str) -> str:
    """A text as inline code, which it cannot end.

    >>> _code("a`b")
    '``a`b``'
    """
    fence = _fence(text, 1)
    return f"{fence}{' '.join(text.split())}{fence}"


def _fence(text: str, least: int) -> str:
    """Backticks, more of them than stand side by side in the text."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])
