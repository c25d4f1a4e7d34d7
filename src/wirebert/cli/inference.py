"""Arguments of the commands that use a trained model. No heavy imports, so that `--help` is fast."""

from pathlib import Path

from wirebert.cli.arguments import (
    DATA,
    Commands,
    add_allow_absent,
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
        "Parquet file a shard, NAME.csv/ or NAME.jsonl/ of text; DATA and FILE may be URIs (s3://, gs://)",
    )
    predict.add_argument(
        "--follow",
        action="store_true",
        help="also score flows that are appended to a log, until Ctrl-C; the output is JSON lines, and with "
        "--out FILE.jsonl the next call continues where this one stopped; standard input (-) is scored as it "
        "arrives with and without this option",
    )
    predict.add_argument(
        "--explain",
        nargs="?",
        choices=("alerts", "all"),
        const="alerts",
        help="add a column `explanation` (default: for alerts and flows that are not benign): the main "
        "evidence for the predicted class, or the most unusual columns where novelty raised the alert",
    )
    add_executor(predict)
    add_fit_options(predict)
    add_verdict_options(predict)


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
        "--out", type=Path, metavar="DIR", help="new model folder (default: MODEL-calibrated)"
    )
    add_fit_options(calibrate)
    add_device(calibrate)


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
    serve.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="file of API keys, one per line; reloaded when the file changes (default: WIREBERT_API_KEYS)",
    )
    serve.add_argument(
        "--allow-anonymous",
        action="store_true",
        help="accept requests from other machines without an API key",
    )
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
    add_allow_absent(serve)
    add_verdict_options(serve)
