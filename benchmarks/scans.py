"""Whether a detector that saw generated and TON_IoT traffic only finds real port scans, and how many alerts it raises elsewhere.

    python benchmarks/scans.py [--data ../shared/data] [--captures 800] [--seeds 1 2 3] [--trees] [--out FOLDER]

Trains the mini model on `captures` of made-up networks and on TON_IoT's flows (which have no times and so no context), in
the way of `wirebert train`, and picks the threshold of its attack score on other captures and other flows of TON_IoT: the
one that 1 in 100 of their benign flows exceeds. The sensors' logs are looked at after that. Those beside the two scans have
no labels, or labels that say more than a flow record can: their alerts are counted, not judged. `--trees` takes boosted
trees instead, which takes seconds.
"""

# The pyarrow stubs know no text literals as arguments.
# pyright: reportArgumentType=false

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.cli import main as wirebert
from wirebert.data.labels import fit_classes
from wirebert.data.loading import Flows, open_flows
from wirebert.data.schema import FlowSchema
from wirebert.data.settings import DataConfig
from wirebert.data.survey import survey
from wirebert.data.synthetic.captures import captures
from wirebert.data.synthetic.conn_log import FIELDS, write_conn_log
from wirebert.evaluation.baselines import fit_trees
from wirebert.serving.detector import Detector

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
    is_benign: np.ndarray
    """By its labels; empty where there are none."""


class Row(NamedTuple):
    """Alerts of one log."""

    name: str
    num_flows: int
    num_above_half: int
    num_above_threshold: int


def ton_iot_lines(path: Path) -> tuple[list[str], list[str]]:
    """Distinct flows of TON_IoT as lines of a conn.log, for training and for validation."""
    rows: dict[str, str] = {}
    flows = open_flows(path)
    label = flows.require_label()
    for table in flows.blocks():
        columns = [table[name].cast(pa.string()).fill_null("-").to_pylist() for name in TON_FIELDS.values()]
        for label_text, *values in zip(table[label].to_pylist(), *columns, strict=True):
            fields = dict.fromkeys(FIELDS, "-") | dict(zip(TON_FIELDS, values, strict=True))
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


def train_model(folder: Path, seed: int, epochs: int) -> Scorer:
    """The mini model, as the command line trains it."""
    words = ["train", str(folder / "train.conn.log"), "--out", str(folder / "run"), "--seed", str(seed)]
    words += ["--drop", "address"]
    for setting in (
        "model.size=mini",
        f"training.epochs={epochs}",
        "training.column_drop=0.3",
        "evaluation.baseline=false",
        "evaluation.num_resamples=100",
    ):
        words += ["--set", setting]
    if wirebert(words) != 0:
        raise SystemExit("training failed")
    detector = Detector.load(folder / "run" / "model")

    def score(flows: Flows) -> Iterator[np.ndarray]:
        for table in flows.blocks():
            found = detector.score(table).attack_score
            assert found is not None
            yield found

    return Scorer(detector.schema, score)


def train_trees(folder: Path, seed: int) -> Scorer:
    """Boosted trees on the same rows."""
    flows = open_flows(folder / "train.conn.log", DataConfig(drop=("address",)))
    classes = fit_classes(flows.schema, survey(flows).label_counts, DataConfig(), None)
    blocks = ((table, classes.encode(table.column("label"))) for table in flows.blocks())
    trees = fit_trees(blocks, flows.schema, len(classes.classes), seed=seed, max_rows=400_000)
    benign = classes.classes.index("benign")

    def score(flows: Flows) -> Iterator[np.ndarray]:
        for table in flows.blocks():
            yield 1.0 - trees.probabilities(table)[:, benign]

    return Scorer(flows.schema, score)


def look(scorer: Scorer, path: Path) -> Look:
    """Scores of all flows of a log."""
    flows = open_flows(path, schema=scorer.schema)
    scores, benign = [np.empty(0)], [np.empty(0, bool)]
    for table, found in zip(flows.blocks(), scorer.score(flows), strict=True):
        scores.append(found)
        if "label" in table.column_names:
            benign.append(pc.equal(table["label"], pa.scalar("benign")).fill_null(False).to_numpy())
    return Look(np.concatenate(scores), np.concatenate(benign))


def measure(seed: int, data: Path, folder: Path, num_captures: int, epochs: int, *, trees: bool) -> list[Row]:
    """One row for each log, after training."""
    write_logs(folder, data, num_captures, seed)
    scorer = train_trees(folder, seed) if trees else train_model(folder, seed, epochs)
    valid = look(scorer, folder / "valid.conn.log")
    benign = valid.attack_score[valid.is_benign]
    threshold = float(np.quantile(benign, 1 - BENIGN_ABOVE))
    attacks = valid.attack_score[~valid.is_benign]
    rows = [
        Row(
            "validation: attacks found",
            len(attacks),
            int((attacks > 0.5).sum()),
            int((attacks > threshold).sum()),
        ),
        Row(
            "validation: false alerts",
            len(benign),
            int((benign > 0.5).sum()),
            int((benign > threshold).sum()),
        ),
    ]
    for name in (*SCANS, *OTHERS):
        scores = look(scorer, data / name).attack_score
        rows.append(Row(name, len(scores), int((scores > 0.5).sum()), int((scores > threshold).sum())))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("WIREBERT_DATA", "../shared/data")))
    parser.add_argument("--captures", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--trees", action="store_true")
    parser.add_argument("--out", type=Path, help="keep logs and runs in this folder")
    given = parser.parse_args()
    print(f"{'log':58} {'flows':>6}  alerts: score above 0.5, above the threshold")
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside) if given.out is None else given.out / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            rows = measure(seed, given.data, folder, given.captures, given.epochs, trees=given.trees)
        print(f"seed {seed}")
        for row in rows:
            print(f"{row.name:58} {row.num_flows:6,}  {row.num_above_half:6,} {row.num_above_threshold:6,}")


if __name__ == "__main__":
    main()
