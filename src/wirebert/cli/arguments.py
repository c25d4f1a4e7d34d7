"""Arguments of several commands. No heavy imports, so that `--help` is fast."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from wirebert.errors import ConfigError

if TYPE_CHECKING:
    from wirebert.cluster.executors import Executor

DATA: Final = (
    "a traffic file (Zeek, Suricata, nfdump or Argus log, delimited text, JSON lines, Parquet, Arrow; "
    "compressed or not), a folder, a glob, or - for standard input"
)

DATA_OPTIONS: Final = ("label", "benign", "label_map", "positive", "drop", "schema", "allow_absent")
"""Options that set a setting of section `data`."""


class AddToMap(argparse.Action):
    """Collects `KEY=VALUE` arguments in a dict; a key may hold an equals sign."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add one argument."""
        key, equals, value = str(values).rpartition("=")
        if not equals or not key.strip():
            parser.error(f"argument {option_string}: expected {self.metavar}, got {values!r}")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), key.strip(): value.strip()})


@runtime_checkable
class Commands(Protocol):
    """The subparsers that commands are added to."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """Add a command and return the parser of its arguments."""
        ...


class SetSetting(argparse.Action):
    """Sets the setting that `const` names, as --set does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Add one setting; the last one that is given counts."""
        namespace.overrides = [*namespace.overrides, f"{self.const}={values}"]


def add_setting_options(parser: argparse.ArgumentParser, *, with_size: bool = True) -> None:
    """Add short options for the settings that are changed most; after `add_recipe_options`."""
    settings = {
        "--epochs": ("training.epochs", "passes over the training flows"),
        "--lr": ("training.learning_rate", "learning rate"),
        "--batch-size": ("training.batch_size", "flows of an optimizer step"),
        **(
            {"--size": ("model.size", "size of the model: base, mini, or a config.json")} if with_size else {}
        ),
    }
    for option, (setting, meaning) in settings.items():
        parser.add_argument(
            option,
            action=SetSetting,
            const=setting,
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{meaning}: --set {setting}=VALUE",
        )


def given_options(options: argparse.Namespace, *names: str) -> dict[str, object]:
    """The named options that were given."""
    values = {name: vars(options).get(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model folder."""
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="model folder, or run folder, for example runs/demo"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add training data, test data, column options and recipe."""
    parser.add_argument("data", metavar="DATA", nargs="?", help=DATA)
    add_test(parser, "test data")
    add_data_options(parser)
    add_recipe_options(parser)
    add_setting_options(parser)


def add_test(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the test files."""
    parser.add_argument("--test", metavar="DATA", action="append", default=[], help=f"{what}; repeatable")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on columns and classes (`DATA_OPTIONS`)."""
    add_column_options(parser)
    add_label_options(parser)
    parser.add_argument(
        "--positive", metavar="CLASS", help="binary classification: this label or class against the rest"
    )
    add_allow_absent(parser)


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on the meaning of labels."""
    parser.add_argument(
        "--benign", metavar="LABEL", help="the label that means no attack (default: found by name)"
    )
    parser.add_argument(
        "--map",
        metavar="LABEL=CLASS",
        dest="label_map",
        action=AddToMap,
        help="count a label as this class; without a class (--map LABEL=), its rows are left out; repeatable",
    )


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on columns."""
    parser.add_argument("--label", metavar="COL", help="label column (default: found by name and content)")
    parser.add_argument(
        "--drop",
        metavar="COL|KIND",
        action="append",
        help="column, or all columns of a kind such as port or address, to exclude from the features; "
        "repeatable",
    )
    parser.add_argument(
        "--schema",
        metavar="NAME|FILE",
        help="known schema, or a TOML file (default: recognised or inferred)",
    )


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and single settings."""
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help="recipe by name, such as nsl_kdd, or a TOML file of settings; none leaves it out (default: the "
        "recipe that is made for the training file, if it is a published one)",
    )
    parser.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="override one setting of the recipe, for example model.size=mini; repeatable",
    )


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Add what happens to traffic that does not fit the model."""
    add_allow_absent(parser)
    add_strict(parser)


def add_allow_absent(parser: argparse.ArgumentParser) -> None:
    """Add the permission to score traffic that lacks most features."""
    parser.add_argument(
        "--allow-absent",
        action="store_const",
        const=True,
        help="accept traffic with fewer than half of the features of the model",
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add the exit code of warnings."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with code 2, after all output, if a finding that is not accepted is a warning or an "
        "error; serve and monitor do not start with such a model",
    )


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add where work by shards is done."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="work by shards in N processes",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS|local",
        help="work by shards on a Ray cluster, or on one that is started on this machine",
    )


def executor_of(options: argparse.Namespace) -> "Executor":
    """The executor that --workers and --cluster name; this process without them.

    Raises:
        ConfigError: Ray is not installed, or there is less than one worker.
    """
    from wirebert.cluster.executors import InProcess, Pool
    from wirebert.cluster.ray_executor import RayCluster, import_ray

    num_workers: int | None = getattr(options, "workers", None)  # not an option of `learn`
    address: str | None = getattr(options, "cluster", None)
    if num_workers is not None and num_workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {num_workers}")
    if address is not None:
        import_ray()  # what is missing is told before anything is read
        return RayCluster(address, num_workers)
    return InProcess() if num_workers is None else Pool(num_workers)


def out_place(name: str) -> Path | str:
    """The value of `--out`: a path of a file; a folder of shards (NAME/) or a URI stays text."""
    return name if name.endswith("/") or "://" in name else Path(name)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device (default: %(default)s)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the inference engine."""
    from wirebert.inference.engines import ENGINES

    parser.add_argument(
        "--backend",
        choices=("auto", *ENGINES),
        default="auto",
        help="inference engine; auto picks the cascade if the model has one, else the fastest export whose "
        "scores match PyTorch on this machine (default: %(default)s)",
    )


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    """Add threshold, novelty, inference engine, precision and threads."""
    parser.add_argument(
        "--fpr",
        type=float,
        metavar="RATE",
        help="alert at the threshold of this target FPR: 0.01, 0.001 or 0.0001 (default: the setting of the "
        "model)",
    )
    parser.add_argument(
        "--novelty",
        action="store_true",
        help="also report flows unlike any training flow: verdict `unknown` and column `novelty`",
    )
    parser.add_argument(
        "--community-id-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the Community ID of flows, as your sensors have it, 0 to 65535 (default: %(default)s)",
    )
    add_backend(parser)
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="numeric precision of inference by PyTorch; auto picks fp16 on a GPU if its scores match fp32, "
        "else fp32 (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads to use (default: all)")
    add_device(parser)
