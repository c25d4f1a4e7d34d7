"""The function of every command, in the order of `wirebert --help`. Its module is imported when it is run."""

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from wirebert.cli.quick_start import collect_from_now
from wirebert.errors import ConfigError

COMMANDS: Final[Mapping[str, str]] = {
    "demo": "wirebert.cli.demo_command:demo",
    "inspect": "wirebert.cli.inspect_command:inspect",
    "learn": "wirebert.cli.training_commands:train",
    "train": "wirebert.cli.training_commands:train",
    "distill": "wirebert.cli.training_commands:train",
    "watch": "wirebert.cli.report_commands:watch",
    "evaluate": "wirebert.cli.inference_commands:evaluate",
    "predict": "wirebert.cli.scoring_commands:predict",
    "hunt": "wirebert.cli.scoring_commands:hunt",
    "monitor": "wirebert.cli.scoring_commands:monitor",
    "calibrate": "wirebert.cli.inference_commands:calibrate",
    "drift": "wirebert.cli.inference_commands:drift",
    "export": "wirebert.cli.training_commands:export",
    "serve": "wirebert.cli.scoring_commands:serve",
    "report": "wirebert.cli.report_commands:report",
    "compare": "wirebert.cli.training_commands:compare",
    "datasets": "wirebert.cli.datasets:datasets",
}
"""Name -> `module:function`."""

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("torch", "sklearn", "scipy", "vl_convert", "onnx", "psutil", "pynvml"),
    "serve": ("starlette", "uvicorn", "prometheus_client"),
    "kafka": ("confluent_kafka",),
}
"""Extra -> the packages that it installs."""


def run_command(options: argparse.Namespace) -> int:
    """Import the module of the command and run it; its exit code.

    Raises:
        ConfigError: it needs a package of an extra that is not installed.
    """
    module, _, function = COMMANDS[options.command].partition(":")
    try:
        command = getattr(import_module(module), function)
        collect_from_now()
        return command(options) or 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        raise ConfigError(
            f"`wirebert {options.command}` needs {package}, which is not installed; "
            f"install it with `pip install 'wirebert[{extra}]'`"
        ) from error
