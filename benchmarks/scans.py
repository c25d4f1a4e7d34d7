"""Whether a detector that saw generated and TON_IoT traffic only finds real port scans, and how many alerts it raises elsewhere.

    python benchmarks/scans.py [--data ../shared/data] [--captures 1600] [--seeds 1 2 3] [--jobs 3] [--trees] [--out scans.json]

Trains the mini model on `captures` of made-up networks and on TON_IoT's flows (which have no times and so no context), in
the way of `wirebert train`, and picks the threshold of its attack score on other captures and other flows of TON_IoT: the
one that 1 in 100 of their benign flows exceeds. The sensors' logs are looked at after that. Those beside the two scans have
no labels, or labels that say more than a flow record can: their alerts are counted, not judged. `--trees` takes boosted
trees instead, which takes seconds. `--out` writes the score of every flow too, for a look at what was alerted.
"""

# The pyarrow stubs know no text literals as arguments.
# pyright: reportArgumentType=false

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
from harness import DATA, Report, by_seed

from wirebert.baselines.fitted import fit_columns
from wirebert.cli.main import main as wirebert
from wirebert.data.checks.profile import profile_table
from wirebert.data.config import DataConfig
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import fit_classes
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.synthetic.captures import captures
from wirebert.data.synthetic.conn_log import CONN_LOG_FIELDS, write_conn_log
from wirebert.inference.detector import Detector

SCANS = ("sensors/zeek-scans/horizontal.conn.log", "sensors/zeek-scans/vertical.conn.log")
OTHERS = (
    "sensors/zeek-tsv/conn.log",
    "sensors/zeek-json/conn.log",
    "sensors/zeek-labeled/conn.log.labeled",
    "sensors/suricata/eve.json.gz",
    "sensors/argus/comma.binetflow.gz",
    "sensors/netflow/nfdump.csv.gz",
    "iot-23/CTU-Honeypot-Capture-4-1.conn.log.labeled.gz",
    "iot-23/CTU-IoT-Malware-Capture-42-1.conn.log.labeled.gz",
)
TON_IOT = "ton-iot/train_test_network.csv.gz"
TON_FIELDS = {
    "proto": "protocol",
    "service": "service",
    "duration": "duration_s",
    "orig_bytes": "src_payload_bytes",
    "resp_bytes": "dst_payload_bytes",
    "conn_state": "conn_state",
    "orig_pkts": "src_packets",
    "orig_ip_bytes": "src_ip_bytes",
    "resp_pkts": "dst_packets",
    "resp_ip_bytes": "dst_ip_bytes",
}
"""Field of conn.log -> canonical column. Addresses and ports would tell TON_IoT's attackers by name."""
TON_CLASSES = {
    "normal": "benign",
    "scanning": "scan",
    "ddos": "flood",
    "dos": "flood",
    "password": "brute_force",
}
"""What captures call it; other types keep their names."""
SETTINGS = (
    "model.size=mini",
    "training.column_dropout=0.3",
    "evaluation.baseline=false",
    "evaluation.num_resamples=100",
)
MOST_OF_A_TYPE = 3_000
VALID_SHARE = 0.25
BENIGN_ABOVE = 0.01
"""Share of benign validation flows above the threshold."""


class Scorer(NamedTuple):
    """A detector: the schema it reads, and the attack scores of flows, block by block."""

    schema: FlowSchema
    score: Callable[[Flows], Iterator[np.ndarray]]


class Look(NamedTuple):
    """What a detector says of a log."""

    attack_score: np.ndarray
    label: np.ndarray
    """Of each flow; empty where the log has none."""


def ton_iot_lines(path: Path) -> tuple[list[str], list[str]]:
    """Distinct flows of TON_IoT as lines of a conn.log, for training and for validation."""
    rows: dict[str, str] = {}
    flows = open_flows(path)
    label = flows.require_label()
    for table in flows.blocks():
        columns = [table[name].cast(pa.string()).fill_null("-").to_pylist() for name in TON_FIELDS.values()]
        for label_text, *values in zip(table[label].to_pylist(), *columns, strict=True):
            fields = dict.fromkeys(CONN_LOG_FIELDS, "-") | dict(zip(TON_FIELDS, values, strict=True))
            rows.setdefault("\t".join(fields.values()), TON_CLASSES.get(str(label_text), str(label_text)))
    generator = np.random.default_rng(0)
    names = np.array(list(rows.values()))
    lines = [f"{line.rpartition(chr(9))[0]}\t{name}" for line, name in rows.items()]
    chosen: list[int] = []
    for name in np.unique(names):
        of_name = generator.permutation(np.flatnonzero(names == name))
        chosen += of_name[: MOST_OF_A_TYPE * (5 if name == "benign" else 1)].tolist()
    is_valid = generator.random(len(chosen)) < VALID_SHARE
    parts = [
        [lines[at] for at, valid in zip(chosen, is_valid, strict=True) if valid == wanted]
        for wanted in (False, True)
    ]
    return parts[0], parts[1]


def write_logs(folder: Path, data: Path, num_captures: int, seed: int) -> None:
    """`train.conn.log` and `valid.conn.log`: captures, then TON_IoT's flows, which have neither times nor ends."""
    ton = ton_iot_lines(data / TON_IOT)
    counts = (num_captures, round(VALID_SHARE * num_captures))
    for name, count, lines, place in zip(("train", "valid"), counts, ton, (0, 1), strict=True):
        path = folder / f"{name}.conn.log"
        write_conn_log(path, captures(count, 2 * seed + place), seed)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def train_model(folder: Path, seed: int, settings: Sequence[str]) -> Scorer:
    """The mini model, as the command line trains it."""
    words = ["train", str(folder / "train.conn.log"), "--out", str(folder / "run"), "--seed", str(seed)]
    words += ["--drop", "address"]
    for setting in (*SETTINGS, *settings):
        words += ["--set", setting]
    with redirect_stdout(io.StringIO()) as printed:
        status = wirebert(words)
    if status != 0:
        sys.exit(f"training failed:\n{printed.getvalue()}")
    detector = Detector.load(folder / "run" / "model", device="auto")

    def score(flows: Flows) -> Iterator[np.ndarray]:
        for table in flows.blocks():
            found = detector.score(table).attack_score
            assert found is not None
            yield found

    return Scorer(detector.schema, score)


def train_trees(folder: Path, seed: int) -> Scorer:
    """Boosted trees on the same rows."""
    flows = open_flows(folder / "train.conn.log", DataConfig(drop=("address",)))
    classes = fit_classes(flows.schema, profile_table(flows).label_counts, DataConfig(), None)
    blocks = ((table, classes.encode(table.column("label"))) for table in flows.blocks())
    trees = fit_columns("gbdt", {}, blocks, flows.schema, len(classes.classes), seed=seed, max_rows=400_000)
    benign = classes.classes.index("benign")

    def score(flows: Flows) -> Iterator[np.ndarray]:
        for table in flows.blocks():
            yield 1.0 - trees.predict_proba(table)[:, benign]

    return Scorer(flows.schema, score)


def look(scorer: Scorer, path: Path) -> Look:
    """Scores of all flows of a log."""
    flows = open_flows(path, schema=scorer.schema)
    scores, labels = [np.empty(0)], [np.empty(0, object)]
    for table, found in zip(flows.blocks(), scorer.score(flows), strict=True):
        scores.append(found)
        if "label" in table.column_names:
            labels.append(np.array(table["label"].to_pylist(), object))
    return Look(np.concatenate(scores), np.concatenate(labels))


def measure(data: Path, num_captures: int, settings: Sequence[str], trees: bool, seed: int) -> Report:
    """Alerts of every log by a detector trained with this seed."""
    start_s = time.perf_counter()

    def say(what: str) -> None:
        print(f"seed {seed}: {what} after {time.perf_counter() - start_s:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_logs(folder, data, num_captures, seed)
        say("captures written")
        scorer = train_trees(folder, seed) if trees else train_model(folder, seed, settings)
        say("trained")
        valid = look(scorer, folder / "valid.conn.log")
    of_class = {
        f"validation: {name}": valid.attack_score[valid.label == name] for name in sorted({*valid.label})
    }
    threshold = float(np.quantile(of_class["validation: benign"], 1 - BENIGN_ABOVE))
    looked = {name: look(scorer, data / name).attack_score for name in (*SCANS, *OTHERS)}
    say("scored")
    return {
        "seed": seed,
        "threshold": threshold,
        "alerts": {
            name: (len(scores), int((scores > 0.5).sum()), int((scores > threshold).sum()))
            for name, scores in (of_class | looked).items()
        },
        "scores": {name: np.round(scores, 6).tolist() for name, scores in looked.items()},
    }


def show(report: Report) -> None:
    """Print a line for each log."""
    print(f"seed {report['seed']}, threshold {report['threshold']:.4f}")
    for name, counts in cast(Mapping[str, tuple[int, int, int]], report["alerts"]).items():
        print("{:58} {:6,}  {:6,} {:6,}".format(name, *counts), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--captures", type=int, default=1600)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="as of wirebert train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--trees", action="store_true")
    parser.add_argument("--out", type=Path, help="write what was found to this JSON file")
    given = parser.parse_args()
    print(f"{'log':58} {'flows':>6}  alerts: score above 0.5, above the threshold", flush=True)
    reports: list[Report] = []
    work = partial(measure, given.data, given.captures, given.settings, given.trees)
    for report in by_seed(work, given.seeds, given.jobs):
        show(report)
        reports.append(report)
        if given.out is not None:
            given.out.write_text(json.dumps(reports) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
