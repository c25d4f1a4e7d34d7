"""Make the model in the box again, and look at what it finds: from generated captures alone.

    python benchmarks/builtin_model.py make --seed 1 --captures 2000 --out builtin-1
    python benchmarks/builtin_model.py look MODEL... [--data ../shared/data] [--captures 300]

`make` trains the mini model on `captures` of made-up networks, in the way of `wirebert train`; the latest tenth of the
captures, of networks that training does not see, gives thresholds. `look` counts the alerts of models on captures of
another seed, by class and by capture, and on the sensors' logs. Models are compared by the captures alone.
"""

# The pyarrow stubs know no text literals as arguments.
# pyright: reportArgumentType=false

import argparse
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from capture_generator.captures import captures
from harness import DATA

from wirebert.cli.main import main as wirebert
from wirebert.data.flows import open_flows
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.inference.artifact import load_artifact, save_artifact
from wirebert.inference.detector import Detector

LOGS = (
    "sensors/zeek-scans/horizontal.conn.log",
    "sensors/zeek-scans/vertical.conn.log",
    "sensors/zeek-tsv/conn.log",
    "sensors/zeek-json/conn.log",
    "sensors/zeek-labeled/conn.log.labeled",
    "sensors/suricata/eve.json.gz",
    "sensors/argus/comma.binetflow.gz",
    "sensors/netflow/nfdump.csv.gz",
    "iot-23/CTU-Honeypot-Capture-4-1.conn.log.labeled.gz",
    "iot-23/CTU-IoT-Malware-Capture-42-1.conn.log.labeled.gz",
)
SETTINGS = (
    "model.size=mini",
    "training.epochs=5",
    "training.column_dropout=0.2",
    "encoding.num_bins=32",
    "encoding.num_exact_values=8",
    "data.split=time",
    "decision.alert_fpr=0.01",
    "decision.novelty_reference_flows=2000",
    "evaluation.baseline=false",
    "evaluation.num_resamples=100",
)
LOOKED_AT = 1_000_003
"""Seed of the captures that models are compared by; no model is trained on it."""
CARD = """
## What it is not

It was trained on generated traffic alone, so that `wirebert hunt` says something useful before there is a model of your
own. It has seen no real network, and knows scans, guessed passwords, beacons, exfiltration and floods only as the
generator draws them (`benchmarks/capture_generator`). It sees flow records, not content. Its threshold holds for
generated traffic; what it raises is worth a look, not a verdict, and what it passes is not cleared. Learn or train a
model from your own traffic for anything that is to be relied on.
"""


def make(out: Path, num_captures: int, seed: int, settings: list[str]) -> None:
    """Train a model and write its folder."""
    out = out.resolve()
    with tempfile.TemporaryDirectory() as aside:
        os.chdir(aside)  # the artifact names its training file
        write_conn_log("captures.conn.log", captures(num_captures, seed), seed)
        words = ["train", "captures.conn.log", "--out", "builtin", "--seed", str(seed), "--drop", "address"]
        for setting in (*SETTINGS, *settings):
            words += ["--set", setting]
        if wirebert(words) != 0:
            raise SystemExit("training failed")
        command = f"python benchmarks/builtin_model.py make --seed {seed} --captures {num_captures}"
        seal(Path("builtin/model"), out, command)


def seal(model: Path, out: Path, command: str) -> None:
    """Write the model folder without the paths of this machine, with a card that says what it is not."""
    artifact = load_artifact(model)
    settings = {**cast(dict[str, object], artifact.origin["settings"]), "train": "captures.conn.log"}
    text = (model / "README.md").read_text(encoding="utf-8")
    text = text.replace("\n## Limits", f"{CARD}\n## Limits", 1)
    text = re.sub(r"(## How it was made\n\n```bash\n).*?\n", rf"\1{command} --out FOLDER\n", text)
    public = replace(artifact, origin={**artifact.origin, "settings": settings})
    save_artifact(public, out, card=text, with_exports=True)


def look(models: list[Path], data: Path, num_captures: int) -> None:
    """Print alerts by class, campaigns found, and alerts of each log."""
    with tempfile.TemporaryDirectory() as aside:
        log = Path(aside) / "captures.conn.log"
        sizes: list[int] = []

        def counted() -> object:
            for table in captures(num_captures, LOOKED_AT):
                sizes.append(table.num_rows)
                yield table

        write_conn_log(log, counted(), LOOKED_AT)
        for model in models:
            detector = Detector.load(model, device="auto")
            assert detector.artifact.operating_point is not None
            thresholds = {t.target_fpr: t.threshold for t in detector.artifact.operating_point.thresholds}
            print(f"{model}: thresholds {thresholds}")
            scores, labels, classes = scored(detector, log)
            capture = np.repeat(np.arange(len(sizes)), sizes)
            for name in sorted({*labels}):
                own = labels == name
                shares = ", ".join(f"{(scores[own] >= t).mean():.3f}" for t in thresholds.values())
                found = ""
                if name != "benign":
                    half = [
                        (scores[own & (capture == at)] >= thresholds[0.01]).mean() >= 0.5
                        for at in np.unique(capture[own])
                    ]
                    named = (classes[own] == name).mean()
                    found = f"; named so {named:.3f}; of {len(half)} campaigns {np.mean(half):.3f} by half of their flows"
                print(f"  {name:14} {own.sum():7,} flows, above: {shares}{found}", flush=True)
            for name in LOGS if data.is_dir() else ():
                scores, _, _ = scored(detector, data / name)
                counts = ", ".join(f"{(scores >= t).sum():5,}" for t in thresholds.values())
                print(f"  {name:58} {len(scores):6,} flows, above: {counts}", flush=True)


def scored(detector: Detector, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alert score, label and predicted class of each flow."""
    flows = open_flows(path, schema=detector.schema)
    scores, labels, classes = [np.empty(0)], [np.empty(0, object)], [np.empty(0, object)]
    for table in flows.blocks():
        found = detector.score(table)
        assert found.alert_score is not None
        scores.append(found.alert_score)
        classes.append(np.array(found.classes, object)[found.class_ids])
        has_label = "label" in table.column_names
        labels.append(
            np.array(table["label"].to_pylist() if has_label else pa.nulls(table.num_rows).to_pylist())
        )
    return np.concatenate(scores), np.concatenate(labels), np.concatenate(classes)


def main() -> None:
    """Make or look."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    making = actions.add_parser("make")
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--captures", type=int, default=2_000)
    making.add_argument("--seed", type=int, default=1)
    making.add_argument("--set", dest="settings", action="append", default=[], help="as of wirebert train")
    looking = actions.add_parser("look")
    looking.add_argument("models", type=Path, nargs="+")
    looking.add_argument("--data", type=Path, default=DATA)
    looking.add_argument("--captures", type=int, default=300)
    given = parser.parse_args()
    if given.action == "make":
        make(given.out, given.captures, given.seed, given.settings)
    else:
        look(given.models, given.data, given.captures)


if __name__ == "__main__":
    main()
