"""Arguments of the commands that use a trained model. No heavy imports, so that `--help` is fast."""

import argparse
from pathlib import Path

from wirebert.cli.arguments import (
    DATA,
    Commands,
    add_backend,
    add_device,
    add_executor,
    add_fit_options,
    add_label_options,
    add_model,
    add_verdict_options,
    out_place,
)


def add_evaluate(commands: Commands) -> None:
    """Add the command `evaluate`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a model on another labelled file",
        description="Score a labelled file with a saved model and print the metrics.",
    )
    add_model(evaluate)
    evaluate.add_argument("data", metavar="DATA", help=DATA)
    evaluate.add_argument("--label", metavar="COL", help="label column")
    add_label_options(evaluate)
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder for report.json, report.html and predictions/"
    )
    add_executor(evaluate)
    add_fit_options(evaluate)
    add_backend(evaluate)
    add_device(evaluate)


def add_predict(commands: Commands) -> None:
    """Add the command `predict`."""
    predict = commands.add_parser(
        "predict",
        help="class, probabilities and attack score of every flow",
        description="Score a file of any size: one line of output per flow, in input order.",
    )
    add_model(predict)
    predict.add_argument("data", metavar="DATA", help=DATA)
    predict.add_argument(
        "--out",
        type=out_place,
        metavar="FILE",
        help="new .csv, .jsonl or .parquet file (default: CSV on standard output); NAME/ is a folder of one "
        "Parquet file a shard, NAME.csv/ or NAME.jsonl/ of text; shards of an earlier start are kept; "
        "DATA and FILE may be URIs (s3://, gs://)",
    )
    predict.add_argument(
        "--format",
        choices=("verdicts", "ecs"),
        default="verdicts",
        help="ecs: one event of the Elastic Common Schema a flow, as JSON lines to FILE.jsonl or standard "
        "output (default: verdicts, by the name of the file)",
    )
    _add_techniques(predict)
    predict.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)  # of `monitor`
    _add_explain(predict)
    add_executor(predict)
    add_fit_options(predict)
    add_verdict_options(predict)


def add_hunt(commands: Commands) -> None:
    """Add the command `hunt`."""
    hunt = commands.add_parser(
        "hunt",
        help="rank and explain unusual hosts and flows of logs without labels",
        description="Score logs without labels, rank hosts and groups of unusual flows, and say what is "
        "unusual beside the nearest normal flow. Without MODEL, the model in the box is used (`builtin`), "
        "which was trained on generated traffic alone.",
    )
    hunt.add_argument(
        "places",
        metavar="[MODEL] LOGS",
        nargs="+",
        help=f"first a model folder or run folder, or none; then logs, each {DATA}",
    )
    hunt.add_argument(
        "--top", type=int, default=10, metavar="N", help="hosts and groups to show (default: %(default)s)"
    )
    hunt.add_argument(
        "--gap",
        type=float,
        default=3_600.0,
        metavar="S",
        help="longest time between two flows of a group, in seconds (default: %(default)s)",
    )
    hunt.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the groups to this new file: .jsonl, which `serve --incidents FILE` shows to be marked, "
        ".csv or .parquet",
    )
    _add_techniques(hunt)
    add_fit_options(hunt)
    add_verdict_options(hunt)


def _add_techniques(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attack-techniques",
        type=Path,
        metavar="FILE",
        help="TOML table of classes with severity, tactic and technique, before the built-in one",
    )


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain",
        nargs="?",
        choices=("alerts", "all"),
        const="alerts",
        help="add a column `explanation` (default: for alerts and flows that are not benign): the main "
        "evidence for the predicted class, or the most unusual columns where novelty raised the alert",
    )


def add_monitor(commands: Commands) -> None:
    """Add the command `monitor`."""
    monitor = commands.add_parser(
        "monitor",
        help="verdicts, alerts and incidents of growing logs, folders, pipes and Kafka topics",
        description="Score flows as they come and write verdicts, alerts and incidents, until SIGTERM or "
        "Ctrl-C. The next call goes on where this one stopped. SIGHUP reads the model and the "
        "suppressions again. See docs/monitor.md.",
    )
    add_model(monitor)
    monitor.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a growing log, a folder or glob of rotated ones, - for standard input, or "
        "kafka://BROKERS/TOPIC?group=NAME",
    )
    monitor.add_argument(
        "--to",
        action="append",
        metavar="TARGET",
        help="PLACE[,format=verdicts|ecs][,write=flows+alerts+incidents+health]; a place is a file, - for "
        "standard output, syslog+udp|tcp|tls://HOST:PORT or kafka://BROKERS/TOPIC; repeatable (default: "
        "every verdict to standard output)",
    )
    monitor.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="folder of positions, open incidents, rejected rows and what waits (default: FILE.state beside "
        "the first file)",
    )
    numbers: dict[str, tuple[type, object, str, str]] = {
        "--spool-mb": (int, 1024, "N", "most megabytes on disk that wait for each remote target"),
        "--heartbeat": (float, 60.0, "S", "seconds between two events that tell that the monitor lives"),
        "--gap": (float, 300.0, "S", "longest time between two flows of an incident"),
        "--min-score": (float, 0.5, "P", "joint score from which alerts are an incident; 0: always"),
        "--max-alerts-per-hour": (int, 0, "N", "incidents opened in an hour, others are one; 0: no limit"),
    }
    for name, (kind, default, unit, text) in numbers.items():
        monitor.add_argument(
            name, type=kind, default=default, metavar=unit, help=f"{text} (default: %(default)s)"
        )
    monitor.add_argument("--suppress", type=Path, metavar="FILE", help="TOML file of alerts to keep silent")
    _add_techniques(monitor)
    monitor.add_argument("--test-event", action="store_true", help="write one event to each target, and end")
    monitor.add_argument(
        "--listen", metavar="HOST:PORT", help="serve /healthz, /readyz and /metrics (Prometheus) there"
    )
    _add_keys(monitor)
    _add_explain(monitor)
    add_fit_options(monitor)
    add_verdict_options(monitor)


def add_calibrate(commands: Commands) -> None:
    """Add the command `calibrate`."""
    calibrate = commands.add_parser(
        "calibrate",
        help="set the alert threshold from your own unlabelled traffic",
        description="Choose the alert threshold so that your own unlabelled traffic raises no more alerts "
        "than your budget, and write a new model folder. The old one is not changed.",
    )
    add_model(calibrate)
    calibrate.add_argument("data", metavar="LOGS", help=DATA)
    budget = calibrate.add_mutually_exclusive_group(required=True)
    budget.add_argument("--alerts-per-day", type=float, metavar="N", help="alert budget per day")
    budget.add_argument(
        "--incidents-per-day",
        type=float,
        metavar="N",
        help="incident budget per day: alerts of one source and class without a gap of 5 minutes are "
        "one, if their joint score is at least 0.5",
    )
    budget.add_argument(
        "--alerts-per-10000",
        type=float,
        metavar="N",
        help="alert budget per 10,000 flows, for logs without times",
    )
    calibrate.add_argument(
        "--days",
        type=float,
        metavar="D",
        help="time span of the logs in days (default: from their time column)",
    )
    calibrate.add_argument(
        "--prior",
        metavar="CLASS=PRIOR",
        action="append",
        default=[],
        help="prior probability of a class in your traffic, by which all probabilities are corrected; "
        "repeatable. `estimate` estimates all priors by maximum likelihood, which holds only if attacks "
        "look as in training",
    )
    calibrate.add_argument(
        "--cascade",
        type=Path,
        metavar="SMALL",
        help="let this smaller model of the same rows and seed answer where it is sure, and MODEL the other "
        "flows, so that nearly all LOGS get the class that MODEL gives",
    )
    calibrate.add_argument(
        "--out", type=Path, metavar="DIR", help="new model folder (default: MODEL-calibrated)"
    )
    add_fit_options(calibrate)
    add_device(calibrate)


def add_drift(commands: Commands) -> None:
    """Add the command `drift`."""
    drift = commands.add_parser(
        "drift",
        help="whether traffic has changed since the model was trained or calibrated",
        description="Compare features, scores and alerts of traffic with the reference in the model: "
        "validation rows, or the traffic of `wirebert calibrate`. Exit code 0: no drift; 3: drift; 2: an "
        "error. For a scheduler, such as cron.",
    )
    add_model(drift)
    drift.add_argument("data", metavar="LOGS", help=DATA)
    drift.add_argument(
        "--false-alarm-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="fraction of comparisons that may tell drift where there is none (default: %(default)s)",
    )
    drift.add_argument("--json", action="store_true", help="print JSON")
    drift.add_argument("--out", type=Path, metavar="FILE", help="write a page (HTML) to this file")
    add_backend(drift)
    add_device(drift)


def add_export(commands: Commands) -> None:
    """Add the command `export`."""
    export = commands.add_parser(
        "export",
        help="export the model to ONNX, for fast inference without a GPU",
        description="Export the model to an ONNX file in its folder, after checking it against PyTorch. "
        "`predict` then uses it.",
    )
    add_model(export)
    export.add_argument("--format", choices=("onnx",), default="onnx", help="(default: %(default)s)")
    export.add_argument(
        "--int8",
        action="store_true",
        help="quantise matrix products to 8 bits: smaller and faster, with nearly equal scores",
    )
    export.add_argument(
        "--data",
        metavar="DATA",
        help="traffic for choosing the 8-bit ranges and for the check (default: generated rows)",
    )


def add_serve(commands: Commands) -> None:
    """Add the command `serve`."""
    serve = commands.add_parser(
        "serve",
        help="serve verdicts over HTTP, with a page to try them",
        description="Serve verdicts over HTTP until SIGTERM or Ctrl-C; accepted requests are completed.",
    )
    add_model(serve)
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; an address that others can reach needs API keys (default: %(default)s)",
    )
    serve.add_argument(
        "--port", type=int, default=8080, help="port to listen on; 0 picks a free one (default: %(default)s)"
    )
    _add_keys(serve)
    serve.add_argument(
        "--max-body-mb",
        type=int,
        default=8,
        metavar="N",
        help="maximum size of a request (default: %(default)s)",
    )
    serve.add_argument(
        "--max-rows",
        type=int,
        default=10_000,
        metavar="N",
        help="maximum flows per request (default: %(default)s)",
    )
    serve.add_argument(
        "--max-queue",
        type=int,
        default=128,
        metavar="N",
        help="queue length; more requests get status 503 (default: %(default)s)",
    )
    serve.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes behind the address, each with the model; limits and metrics are those of all "
        "(default: one)",
    )
    serve.add_argument(
        "--incidents",
        type=Path,
        metavar="FILE",
        help="show the incidents of `monitor --to FILE,write=incidents` on the page",
    )
    serve.add_argument(
        "--feedback",
        type=Path,
        metavar="FILE",
        help="file that marks on incidents are appended to; marking needs a key (default: "
        "INCIDENTS.feedback.jsonl)",
    )
    add_fit_options(serve)
    add_verdict_options(serve)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="file of API keys, one per line; reloaded when the file changes (default: WIREBERT_API_KEYS)",
    )
    parser.add_argument(
        "--allow-anonymous",
        action="store_true",
        help="accept requests from other machines without an API key",
    )
