"""What `wirebert serve` takes on the command line. Imports nothing heavy: `--help` answers at once."""

import argparse
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Commands(Protocol):
    """What commands are added to."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """A parser for the arguments of one more command."""
        ...


def add_serve(commands: Commands) -> None:
    """Add the command `serve`."""
    serve = commands.add_parser(
        "serve",
        help="verdicts over HTTP, and a page to try them",
        description="Answer requests for verdicts over HTTP until SIGTERM or Ctrl-C; what was taken by then is finished.",
    )
    serve.add_argument("model", metavar="MODEL", type=Path, help="model folder (RUN/model)")
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
        "--at",
        type=float,
        metavar="RATE",
        help="alert at the threshold for this false positive rate (default: where the model was set)",
    )
    serve.add_argument(
        "--unknown", action="store_true", help="also tell flows that are like nothing in training"
    )
    serve.add_argument(
        "--max-body-mb", type=int, default=8, metavar="N", help="size of a request (default: %(default)s)"
    )
    serve.add_argument(
        "--max-rows", type=int, default=10_000, metavar="N", help="flows of a request (default: %(default)s)"
    )
    serve.add_argument(
        "--max-waiting",
        type=int,
        default=128,
        metavar="N",
        help="requests that wait; further ones are told to come again (default: %(default)s)",
    )
    serve.add_argument(
        "--backend",
        choices=("auto", "torch", "onnx", "onnx-int8"),
        default="auto",
        help="who computes; auto takes the fastest export of the model that agrees with it (default: %(default)s)",
    )
    serve.add_argument("--threads", type=int, metavar="N", help="processors to use (default: all)")
    serve.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute (default: %(default)s)",
    )
