"""What comes after verdicts: events of ECS, and incidents.

    python benchmarks/alerts.py ecs [--flows 200000] [--model FOLDER]
    python benchmarks/alerts.py incidents [--data ../shared/data] [--captures 400] [--seeds 1 2 3 4 5] [--trees | --model FOLDER] [--out FILE]

    python benchmarks/alerts.py monitor|kafka [--flows 1000000] [--kills 20] [--model FOLDER] [--out FILE]
    python benchmarks/alerts.py sinks [--seconds 600] | speed [--flows 300000]

`monitor`: a log that grows and is rotated, and a monitor that is killed: flows without a verdict or with two, memory, lag.
`kafka`: the same from a topic to a topic of a mock broker. `sinks`: a receiver that is refused, slow and flapping, and a full disk, in turn.
`speed`: flows a second from a log to ECS lines, by `wirebert monitor`. These four are in `monitor_parts.py`.

`ecs`: flows a second from a Zeek log to ECS lines in a file, by `wirebert predict` on all cores, with the mini model.

`incidents`: for each seed a mini model is trained on captures of made-up networks; other captures are scored, and its alerts
are taken by flow and by incident. Then each model looks at the two real scans of the sensors' logs: how many incidents it
makes of them, and how many flows each holds. `--trees` takes boosted trees instead of the mini model, which takes seconds;
their threshold is the score that 1 in 100 benign flows of further captures exceeds.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from capture_generator.captures import captures
from harness import DATA, Report, by_seed, write_figures

from wirebert.alerts.ecs import EcsContext, carried_columns
from wirebert.alerts.grouping import group_keys, incident_ids
from wirebert.alerts.incident_records import IncidentSettings, alert_classes
from wirebert.alerts.incidents import IncidentTracker
from wirebert.baselines.fitted import fit_columns
from wirebert.cli.main import main as wirebert
from wirebert.data.checks.profile import profile_table
from wirebert.data.config import DataConfig
from wirebert.data.flows import open_flows
from wirebert.data.labels import fit_classes
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.times import seconds_of
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import open_writer, predict_blocks
from wirebert.metrics.incidents import incident_metrics

SCANS = {
    "horizontal": ("sensors/zeek-scans/horizontal.conn.log", "10.0.2.112"),
    "vertical": ("sensors/zeek-scans/vertical.conn.log", "192.168.1.9"),
}
"""Log, and who scans in it."""
SETTINGS = (
    "model.size=mini",
    "training.column_dropout=0.3",
    "evaluation.baseline=false",
    "decision.alert_fpr=0.01",
)


def train_mini(folder: Path, num_captures: int, seed: int, settings: tuple[str, ...] = ()) -> Detector:
    """The mini model, trained on captures as the command line does it."""
    log = folder / "train.conn.log"
    write_conn_log(log, captures(num_captures, seed), seed)
    words = ["train", str(log), "--out", str(folder / "run"), "--seed", str(seed), "--drop", "address"]
    for setting in (*SETTINGS, "evaluation.num_resamples=100", *settings):
        words += ["--set", setting]
    with redirect_stdout(io.StringIO()) as printed:
        if wirebert(words) != 0:
            sys.exit(f"training failed:\n{printed.getvalue()}")
    return Detector.load(folder / "run" / "model")


class Judge(NamedTuple):
    """A detector: the class that means no attack, and the verdict records of a log."""

    benign: str
    records: Callable[[Path], Iterator[pa.Table]]


def saved(detector: Detector) -> Judge:
    benign = detector.artifact.classes.benign
    assert benign is not None

    def records(log: Path) -> Iterator[pa.Table]:
        return predict_blocks(detector, open_flows(log, schema=detector.schema))

    return Judge(benign, records)


def trees(folder: Path, num_captures: int, seed: int) -> Judge:
    for name, count, start in (("train", num_captures, seed), ("valid", num_captures // 4, 500 + seed)):
        write_conn_log(folder / f"{name}.conn.log", captures(count, start), seed)
    flows = open_flows(folder / "train.conn.log", DataConfig(drop=("address",)))
    classes = fit_classes(flows.schema, profile_table(flows).label_counts, DataConfig(), None)
    blocks = ((table, classes.encode(table.column("label"))) for table in flows.blocks())
    fitted = fit_columns("gbdt", {}, blocks, flows.schema, len(classes.classes), seed=seed, max_rows=400_000)
    names, benign = classes.classes, classes.classes.index("benign")

    def records(log: Path, threshold: float) -> Iterator[pa.Table]:
        for table in open_flows(log, schema=flows.schema).blocks():
            found = fitted.predict_proba(table)
            score = 1.0 - found[:, benign]
            located = {
                name: table[name] for name in ("ts", "uid", "src_ip", "dst_ip") if name in table.column_names
            }
            located["dst_port"] = table["dst_port"].cast(pa.float64()).cast(pa.int64())
            yield pa.table(
                {
                    **located,
                    "predicted_class": pa.array(np.array(names)[found.argmax(axis=1)].tolist()),
                    **{f"p_{name}": found[:, at].astype(float) for at, name in enumerate(names)},
                    "attack_score": score.astype(float),
                    "verdict": pa.array(np.where(score > threshold, "alert", "pass").tolist()),
                }
            )

    valid = folder / "valid.conn.log"
    scores = pa.concat_tables(records(valid, 2.0))["attack_score"].to_numpy()
    is_benign = np.array(labels_of(valid).to_pylist()) == "benign"
    threshold = float(np.quantile(scores[is_benign], 0.99))
    return Judge("benign", partial(records, threshold=threshold))


def labels_of(log: Path) -> pa.Array:
    return pa.concat_tables(open_flows(log).blocks())["label"].cast(pa.string()).combine_chunks()


def by_flow_and_incident(judge: Judge, log: Path, settings: IncidentSettings) -> Report:
    """Metrics of the alerts on a labelled log."""
    records = pa.concat_tables(judge.records(log)).combine_chunks()
    labels, benign, time_s = labels_of(log), judge.benign, seconds_of(records["ts"])
    is_alert = np.array(records["verdict"].to_pylist()) == "alert"
    is_attack = np.array(labels.to_pylist()) != benign
    keys, true_keys = (
        group_keys(records["src_ip"], names, settings.group_by)
        for names in (alert_classes(records, benign), labels)
    )
    scores = records["attack_score"].to_numpy()
    raised = incident_ids(keys, time_s, is_alert, settings.gap_s, scores, settings.min_score)
    true = incident_ids(true_keys, time_s, is_attack, settings.gap_s)
    return asdict(incident_metrics(raised, true, time_s, is_alert))


def scan_incidents(judge: Judge, data: Path) -> Report:
    """Incidents of whoever scans, by each way to group flows, and the flows that each holds."""
    report: dict[str, object] = {}
    for name, (log, scanner) in SCANS.items():
        for group_by in ("source_and_class", "source"):
            settings = IncidentSettings(group_by=group_by)
            tracker = IncidentTracker(settings, benign=judge.benign)
            events = [event for part in judge.records(data / log) for event in tracker.add(part)]
            events += tracker.close_all()
            closed = [event.incident for event in events if event.kind == "closed"]
            report[f"{name}, by {group_by}"] = [
                (one.class_name, one.num_flows, one.num_destinations, one.num_ports)
                for one in closed
                if one.source == scanner
            ]
    return report


def incidents_of_seed(
    seed: int,
    data: Path,
    num_captures: int,
    settings: tuple[str, ...],
    is_trees: bool,
    model: Path | None,
    min_score: float,
) -> Report:
    with tempfile.TemporaryDirectory(prefix="wirebert-alerts-") as place:
        folder = Path(place)
        if is_trees:
            judge = trees(folder, num_captures, seed)
        elif model is not None:
            judge = saved(Detector.load(model))
        else:
            judge = saved(train_mini(folder, num_captures, seed, settings))
        log = folder / "test.conn.log"
        write_conn_log(log, captures(num_captures // 2, 1_000 + seed), seed)
        found = by_flow_and_incident(judge, log, IncidentSettings(min_score=min_score))
        scans = scan_incidents(judge, data) if data.is_dir() else {}
        return {"seed": seed, "generated": found, "scans": scans}


def incidents(options: argparse.Namespace) -> None:
    measure = partial(
        incidents_of_seed,
        data=options.data,
        num_captures=options.captures,
        settings=tuple(options.set),
        is_trees=options.trees,
        model=options.model,
        min_score=options.min_score,
    )
    reports: list[Report] = []
    for report in by_seed(measure, options.seeds, options.jobs):
        print(json.dumps(report), flush=True)
        reports.append(report)
    for name in (
        "flow_precision",
        "precision",
        "flow_recall",
        "recall",
        "num_alerts",
        "num_raised",
        "per_day",
    ):
        values = [report["generated"][name] for report in reports]  # pyright: ignore[reportIndexIssue]
        known = [value for value in values if value is not None]
        spread = statistics.stdev(known) if len(known) > 1 else 0.0
        print(f"{name:>16} {statistics.mean(known):10.3f} +- {spread:.3f}")
    write_figures(options.out, incidents=reports)


def ecs(options: argparse.Namespace) -> None:
    """Flows a second from file to ECS lines, beside those to JSON lines of verdicts."""
    with tempfile.TemporaryDirectory(prefix="wirebert-alerts-") as place:
        folder = Path(place)
        if options.model is None:
            train_mini(folder, 60, 1, ("training.epochs=2",))
        model = options.model or folder / "run" / "model"
        log, num_flows = folder / "big.conn.log", 0
        write_conn_log(log, captures(max(1, options.flows // 350), 7), 7)
        detector = Detector.load(model)
        context = EcsContext(model_sha256=detector.artifact.sha256, benign=detector.artifact.classes.benign)
        for name, context_or_none in (
            ("verdicts", None),
            ("ecs", context),
            ("verdicts", None),
            ("ecs", context),
        ):
            detector = Detector.load(model)  # its cache of scores is empty
            start = time.perf_counter()
            flows = open_flows(log, schema=detector.schema)
            carried = carried_columns(flows.schema.names) if context_or_none else ()
            out = folder / f"{name}-{start}.jsonl"
            num_flows = 0
            with open_writer(out, context_or_none) as writer:
                for part in predict_blocks(detector, flows, carried=carried):
                    writer.write(part)
                    num_flows += part.num_rows
            took = time.perf_counter() - start
            print(
                f"{name:>9}: {num_flows:,} flows in {took:.1f} s: {num_flows / took:,.0f} flows/s", flush=True
            )


def monitored(name: str, options: argparse.Namespace) -> None:
    """One of the parts of `monitor_parts`, with the model that was given or a mini model trained on the spot."""
    import monitor_parts

    with tempfile.TemporaryDirectory(prefix="wirebert-alerts-") as place:
        model = options.model
        if model is None:
            train_mini(Path(place), 60, 1)
            model = Path(place) / "run" / "model"
        if name == "sinks":
            found = monitor_parts.sinks_part(model, options.seconds)
        elif name == "speed":
            found = monitor_parts.speed_part(model, options.flows)
        else:
            part = monitor_parts.monitor_part if name == "monitor" else monitor_parts.kafka_part
            found = part(model, options.flows, options.kills)
    print(json.dumps(found, indent=1))
    write_figures(options.out, **{name: found})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    speed = parts.add_parser("ecs")
    speed.add_argument("--flows", type=int, default=200_000)
    speed.add_argument("--model", type=Path)
    speed.set_defaults(run=ecs)
    grouped = parts.add_parser("incidents")
    grouped.add_argument("--data", type=Path, default=DATA)
    grouped.add_argument("--captures", type=int, default=400)
    grouped.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    grouped.add_argument("--jobs", type=int, default=2)
    grouped.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    grouped.add_argument("--trees", action="store_true")
    grouped.add_argument("--min-score", type=float, default=IncidentSettings().min_score)
    grouped.add_argument(
        "--model", type=Path, help="a trained model for all seeds, which then only change the test"
    )
    grouped.add_argument("--out", type=Path)
    grouped.set_defaults(run=incidents)
    for name, flows, kills in (("monitor", 1_000_000, 20), ("kafka", 1_000_000, 20), ("speed", 300_000, 0)):
        part = parts.add_parser(name)
        part.add_argument("--flows", type=int, default=flows)
        part.add_argument("--kills", type=int, default=kills)
        part.set_defaults(run=partial(monitored, name))
    broken = parts.add_parser("sinks")
    broken.add_argument("--seconds", type=float, default=600)
    broken.set_defaults(run=partial(monitored, "sinks"))
    for name in ("monitor", "kafka", "speed", "sinks"):
        parts.choices[name].add_argument("--model", type=Path)
        parts.choices[name].add_argument("--out", type=Path)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
