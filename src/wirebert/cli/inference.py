"""What the commands that use a trained model take on the command line. Imports nothing heavy: `--help` answers at once."""

from pathlib import Path

from wirebert.cli.arguments import DATA, Commands, add_device, add_model, add_verdict_options


def add_evaluate(commands: Commands) -> None:
    """Add the command `evaluate`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="report on another labelled file",
        description="Score a labelled file with a saved model and print its figures.",
    )
    add_model(evaluate)
    evaluate.add_argument("data", metavar="DATA", help=DATA)
    evaluate.add_argument("--label", metavar="COL", help="label column")
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder for report.json, report.html and predictions/"
    )
    add_device(evaluate)


def add_predict(commands: Commands) -> None:
    """Add the command `predict`."""
    predict = commands.add_parser(
        "predict",
        help="class, probabilities and attack score of every flow",
        description="Score a file; one line of output per flow, in input order, at any file size.",
    )
    add_model(predict)
    predict.add_argument("data", metavar="DATA", help=DATA)
    predict.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="new .csv, .jsonl or .parquet file (default: CSV on standard output)",
    )
    predict.add_argument(
        "--follow",
        action="store_true",
        help="go on with the flows that are appended to a log, until Ctrl-C; verdicts are JSON lines, and with --out FILE.jsonl "
        "the next call continues where this one stopped",
    )
    predict.add_argument(
        "--explain",
        nargs="?",
        choices=("alerts", "all"),
        const="alerts",
        help="add a column `why`: what carried the verdict (default: of flows that are not benign and of alerts); features, or where "
        "novelty raised the alert the columns that are least like training",
    )
    add_verdict_options(predict)


def add_calibrate(commands: Commands) -> None:
    """Add the command `calibrate`."""
    calibrate = commands.add_parser(
        "calibrate",
        help="set the alert threshold from your own unlabelled traffic",
        description="Set the score that raises an alert so that no more alerts come on your own unlabelled traffic than "
        "you can look at, and write a new model folder; the old one stays as it is.",
    )
    add_model(calibrate)
    calibrate.add_argument("data", metavar="LOGS", help=DATA)
    allowed = calibrate.add_mutually_exclusive_group(required=True)
    allowed.add_argument(
        "--alerts-per-day", type=float, metavar="N", help="alerts that you can look at in a day"
    )
    allowed.add_argument(
        "--alerts-per-10000",
        type=float,
        metavar="N",
        help="the same for logs without times: per 10,000 flows",
    )
    calibrate.add_argument(
        "--days", type=float, metavar="D", help="time that the logs span (default: by their column of times)"
    )
    calibrate.add_argument(
        "--prior",
        metavar="CLASS=SHARE",
        action="append",
        default=[],
        help="share of a class in your traffic, which changes all probabilities; may be given more than once. `estimate` "
        "takes the shares that make the traffic likeliest, which is right only where attacks look as in training",
    )
    calibrate.add_argument(
        "--out", type=Path, metavar="DIR", help="new model folder (default: MODEL-calibrated)"
    )
    add_device(calibrate)


def add_export(commands: Commands) -> None:
    """Add the command `export`."""
    export = commands.add_parser(
        "export",
        help="an ONNX file of the model, for fast scoring without a GPU",
        description="Write the model as an ONNX file into its folder, checked against PyTorch first; `predict` then uses it.",
    )
    add_model(export)
    export.add_argument("--format", choices=("onnx",), default="onnx", help="(default: %(default)s)")
    export.add_argument(
        "--int8", action="store_true", help="8-bit matrix products: smaller and faster, almost equal"
    )
    export.add_argument(
        "--data",
        metavar="DATA",
        help="traffic to make the 8-bit ranges from and to check on (default: generated rows)",
    )


def add_serve(commands: Commands) -> None:
    """Add the command `serve`."""
    serve = commands.add_parser(
        "serve",
        help="verdicts over HTTP, and a page to try them",
        description="Answer requests for verdicts over HTTP until SIGTERM or Ctrl-C; what was taken by then is finished.",
    )
    add_model(serve)
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; one that others can reach needs keys (default: %(default)s)",
    )
    serve.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: %(default)s)")
    serve.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="API keys, one a line; read anew when the file changes (default: those in WIREBERT_API_KEYS, if any)",
    )
    serve.add_argument(
        "--allow-anonymous", action="store_true", help="let others than this machine ask without a key"
    )
    serve.add_argument(
        "--max-body-mb", type=int, default=8, metavar="N", help="size of a request (default: %(default)s)"
    )
    serve.add_argument(
        "--max-rows", type=int, default=10_000, metavar="N", help="flows of a request (default: %(default)s)"
    )
    serve.add_argument(
        "--max-queue",
        type=int,
        default=128,
        metavar="N",
        help="requests that wait; further ones are told to come again (default: %(default)s)",
    )
    add_verdict_options(serve)
