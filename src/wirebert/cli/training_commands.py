"""The commands that train, and `export`. PyTorch is imported once the settings are known."""

import argparse
import os
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from wirebert.cli.arguments import DATA_OPTIONS, executor_of, given_options
from wirebert.cluster.executors import Executor, Pool
from wirebert.cluster.ray_executor import RayCluster, import_ray
from wirebert.config import (
    LearnConfig,
    RunConfig,
    find_recipe,
    read_toml,
    recipe_for,
    resolve_learning,
    resolve_run,
    sets_classes,
    write_run,
)
from wirebert.console import SafeConsole, say
from wirebert.data.flows import find_files
from wirebert.errors import ConfigError, RunError
from wirebert.files import write_atomic
from wirebert.inference.artifact import load_artifact
from wirebert.inference.export import export_model
from wirebert.model.config import find_architecture
from wirebert.run_folder import RunFolder, locked, new_run_folder, next_run_path, open_run_folder
from wirebert.serialization import merge
from wirebert.telemetry.processors import has_nvidia_gpu
from wirebert.telemetry.threads import import_pytorch
from wirebert.training.config import TrainConfig
from wirebert.untrusted_text import warn
from wirebert.workflows.findings import require_no_warnings
from wirebert.workflows.prepare import prepare_and_encode, start_reading
from wirebert.workflows.ranks import Ranks
from wirebert.workflows.report import default_name
from wirebert.workflows.teacher import Teacher

if TYPE_CHECKING:
    pass

COLUMN_OPTIONS = ("label", "drop", "schema")
"""The options of `DATA_OPTIONS` that apply without labels."""


def train(options: argparse.Namespace) -> None:
    """Train a detector, distil one, learn one without labels, or resume an interrupted run."""
    if "WORLD_SIZE" in os.environ:
        _train_as_rank(options)
        return
    if options.gpus < 1 or (options.gpus > 1 and not has_nvidia_gpu()):
        raise ConfigError(
            f"--gpus must be at least 1, and 1 on a machine without a GPU of NVIDIA, got {options.gpus}"
        )
    # What is missing is told before anything is read.
    with closing(executor_of(options)) as executor:
        if options.gpus > 1 and isinstance(executor, RayCluster):
            raise ConfigError("--gpus is for GPUs of this machine; with --cluster pass --workers")
        _begin_or_resume(options, Ranks(options.gpus), executor)


def _train_as_rank(options: argparse.Namespace) -> None:
    """Train as one of the processes that a launcher such as torchrun has started."""
    import_pytorch()
    from wirebert.training.interruption import sigterm_as_exception
    from wirebert.training.parallel.process_group import init_process_group

    with init_process_group(os.environ) as group:
        if group.communicator.is_main:
            with closing(executor_of(options)) as executor:
                _begin_or_resume(options, Ranks(group.communicator.size, group), executor)
        else:
            # Only now: the first rank waits until this one has joined.
            from wirebert.workflows.rank_jobs import run_worker

            with sigterm_as_exception():
                run_worker(group)


def _begin_or_resume(options: argparse.Namespace, ranks: Ranks, executor: Executor) -> None:
    run = _begin if options.resume is None else _resume
    run(options, SafeConsole(), ranks, executor)


def _begin(options: argparse.Namespace, console: Console, ranks: Ranks, executor: Executor) -> None:
    recipe = _find_recipe(options)
    batch = batch_of_all(ranks.number)
    if options.command == "learn":
        run = _described_learning(options, recipe, batch)
        name = f"learn-{default_name(run.rows[0])}"
    elif options.command == "distill":
        run = _described_student(options, recipe, batch)
        name = f"{default_name(run.train)}-{Path(run.model.size).stem}"
    else:
        run = _described(options, recipe, inherited=batch)
        name = default_name(run.train)
    tell_batch(run, ranks.number, console)
    with new_run_folder(options.out or next_run_path(name)) as folder:
        write_run(run, folder.run_toml)
        if recipe is not None:
            write_atomic(folder.recipe_toml, recipe.read_text(encoding="utf-8"))
        strict = getattr(options, "strict", False)  # not of `learn`
        fit(run, folder, console, ranks, strict=strict, executor=executor)


def batch_of_all(num_processes: int) -> dict[str, object]:
    """The default batch of several GPUs: each keeps that of one."""
    if num_processes == 1 or not has_nvidia_gpu():
        return {}
    return {"training": {"batch_size": num_processes * TrainConfig().batch_size}}


def tell_batch(run: RunConfig | LearnConfig, num_processes: int, console: Console) -> None:
    """Print the batch of several GPUs, if it is their default."""
    if batch_of_all(num_processes) == {"training": {"batch_size": run.training.batch_size}}:
        one = TrainConfig().batch_size
        say(
            console,
            f"batch: {one:,} flows on each of {num_processes} GPUs, {run.training.batch_size:,} in a step; "
            f"set training.batch_size={one} for the steps of one GPU",
        )


def _find_recipe(options: argparse.Namespace) -> Path | None:
    """The recipe that was asked for or, in a training from labels, that is made for the training file."""
    if options.recipe is not None:
        return find_recipe(options.recipe)
    own = given_options(options, "label", "benign", "label_map", "positive", "schema", "init_from")
    if options.command not in ("train", "compare") or options.data is None or own:
        return None
    if sets_classes(options.overrides):
        return None
    recipe = recipe_for(options.data)
    if recipe is not None:
        warn(f"recipe {recipe.stem}, which is made for {options.data}; --recipe none leaves it out")
    return recipe


def _described(
    options: argparse.Namespace,
    recipe: Path | None,
    *,
    inherited: Mapping[str, object] | None = None,
    extra: Mapping[str, object] | None = None,
) -> RunConfig:
    """The run that the data, recipe and options of a command describe.

    Args:
        inherited: Settings that replace the defaults.
        extra: Settings from other options of the command.
    """
    given: dict[str, object] = {
        "data": given_options(options, *DATA_OPTIONS),
        **given_options(options, "seed"),
        **(extra or {}),
    }
    # Absolute, so that the run can be resumed from another folder.
    if options.data is not None:
        given["train"] = options.data if options.data == "-" else str(Path(options.data).absolute())
    start: Path | None = getattr(options, "init_from", None)  # not an option of every command
    if start is not None:
        load_artifact(start)
        given["model"] = {"init_from": str(start.absolute())}
    if options.test:
        given["test"] = [data if data == "-" else str(Path(data).absolute()) for data in options.test]
    run = resolve_run(recipe, options.overrides, given, inherited=inherited)
    if not run.train:
        raise ConfigError(f"no training data: pass a file, folder or pattern to `wirebert {options.command}`")
    if "-" in (run.train, *run.test, *run.distillation.unlabelled):
        raise ConfigError(
            "training data cannot be `-`, as training reads it more than once; save it to a file"
        )
    for data in run.test:  # a wrong path fails now; the content is opened after the model is saved
        find_files(data)
    return run


def _described_student(
    options: argparse.Namespace, recipe: Path | None, defaults: Mapping[str, object]
) -> RunConfig:
    """The training run of a student that teacher, data, recipe and options describe."""
    if options.model is None:
        raise ConfigError("no teacher: pass its model folder to `wirebert distill`, e.g. runs/demo/model")
    teacher = Teacher.load(options.model)
    unlabelled = [name if name == "-" else str(Path(name).absolute()) for name in options.unlabelled]
    extra: dict[str, object] = {
        "model": {"size": options.size or "mini"},
        "distillation": {"teacher": str(options.model.absolute()), "unlabelled": unlabelled},
    }
    run = _described(options, recipe, inherited=merge(defaults, teacher.settings()), extra=extra)
    find_architecture(run.model.size)  # fails before any data is read
    folder, out = options.model.resolve(), None if options.out is None else options.out.resolve()
    if out is not None and (out == folder.parent or out.is_relative_to(folder)):
        raise ConfigError(
            f"--out {options.out}: this is the folder of the teacher; choose another folder for the student"
        )
    return run


def _described_learning(
    options: argparse.Namespace, recipe: Path | None, defaults: Mapping[str, object]
) -> LearnConfig:
    """The run without labels that data, recipe and options describe."""
    given: dict[str, object] = {
        "data": given_options(options, *COLUMN_OPTIONS),
        **given_options(options, "seed"),
    }
    if options.data:
        given["rows"] = [data if data == "-" else str(Path(data).absolute()) for data in options.data]
    run = resolve_learning(recipe, options.overrides, given, inherited=defaults)
    if not run.rows or "-" in run.rows:
        raise ConfigError(
            "the traffic cannot be `-`, as learning reads it more than once; save it to a file"
            if run.rows
            else "no traffic: pass files, folders or patterns to `wirebert learn`"
        )
    return run


def _resume(options: argparse.Namespace, console: Console, ranks: Ranks, executor: Executor) -> None:
    names = ("data", "test", "recipe", "overrides", "out", "seed", "init_from", *DATA_OPTIONS)
    names += ("model", "unlabelled", "size")
    given = [name for name in names if getattr(options, name, None) not in (None, [])]
    if given:
        raise ConfigError(
            f"--resume continues a run with its own settings and takes no other option, got "
            f"{', '.join(given)}"
        )
    folder = open_run_folder(options.resume)
    with locked(folder):
        is_learning = "rows" in read_toml(folder.run_toml)
        if is_learning != (options.command == "learn"):
            command = "learn" if is_learning else "train"
            raise RunError(
                f"{folder.path}: this is a run of `wirebert {command}`, not of `wirebert {options.command}`; "
                f"continue it with `wirebert {command} --resume {folder.path}`"
            )
        if folder.is_finished:
            folder.discard_working_files()  # a killed process may have left some
            console.print(
                f"{folder.path}: this run is finished; `wirebert report {folder.path}` shows its metrics"
            )
            return
        resolve = resolve_learning if is_learning else resolve_run
        strict = getattr(options, "strict", False)
        fit(resolve(folder.run_toml), folder, console, ranks, strict=strict, executor=executor)


def fit(
    run: RunConfig | LearnConfig,
    folder: RunFolder,
    console: Console,
    ranks: Ranks | None = None,
    *,
    strict: bool = False,
    executor: Executor | None = None,
) -> None:
    """Train or learn in `folder`; Ctrl-C tells how to continue."""
    ranks = ranks or Ranks(1)
    is_here = ranks.group is None and not isinstance(executor, Pool | RayCluster)
    read = start_reading(run, folder).result if is_here and isinstance(run, RunConfig) else None
    command = "learn" if isinstance(run, LearnConfig) else "train"
    try:
        with ranks.joined() as group:
            from wirebert.training.interruption import sigterm_as_exception

            with sigterm_as_exception():
                if isinstance(run, LearnConfig):
                    from wirebert.workflows import learn

                    learn.learn(run, folder, console, group)
                    return
                if isinstance(executor, RayCluster):
                    prepare_and_encode(run, folder, executor)
                    from wirebert.workflows.train_on_cluster import train_on_cluster

                    report = train_on_cluster(executor, folder)
                else:
                    from wirebert.workflows import train

                    if isinstance(executor, Pool):
                        read = partial(prepare_and_encode, run, folder, executor)
                    report = train.train(run, folder, console, group, read)
    except KeyboardInterrupt as stop:
        raise type(stop)(f"continue with `wirebert {command} --resume {folder.path}`") from stop
    if strict:
        require_no_warnings(report.data.findings, can_accept=True)


def compare(options: argparse.Namespace) -> None:
    """Benchmark a recipe against tuned baselines on the same rows."""
    # Here, since trainings need none of it.
    from wirebert.comparison.compare import run_comparison, run_detection
    from wirebert.comparison.detection import as_tables
    from wirebert.comparison.jobs import JOB_BYTES, default_jobs
    from wirebert.comparison.splits import compare_on_splits
    from wirebert.report.comparison_terminal import print_comparison
    from wirebert.training.interruption import sigterm_as_exception

    if options.jobs is not None and options.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {options.jobs}")
    if options.minutes is not None and not options.minutes > 0:
        raise ConfigError(f"--minutes must be above 0, got {options.minutes:g}")
    recipe = _find_recipe(options)
    run = _described(options, recipe)
    if not run.test and not run.data.test_fraction and run.comparison.protocol != "leave_attack_out":
        raise ConfigError("no test data: pass --test FILE or set data.test_fraction")
    if run.distillation.model_folder is not None:
        raise ConfigError(
            "distillation.teacher cannot be a trained model in a comparison, whose methods learn from labels "
            f"only, got {run.distillation.teacher!r}; pass a student of `wirebert distill` as --run"
        )
    if options.cluster is None:
        workers = options.jobs or default_jobs()
    else:
        import_ray()  # what is missing is told before anything is read
        workers = RayCluster(options.cluster, options.jobs, worker_bytes=JOB_BYTES, is_fresh=True)
    console = SafeConsole()
    out = options.out or Path("runs") / f"compare-{recipe.stem if recipe else 'defaults'}"
    text = recipe.read_text(encoding="utf-8") if recipe else ""
    if run.comparison.protocol != "labels":
        if options.run or options.minutes is not None or run.comparison.num_splits > 1:
            raise ConfigError(
                "--run, --minutes and comparison.num_splits are for comparison.protocol=labels, got "
                f"{run.comparison.protocol}; leave them out"
            )
        with sigterm_as_exception():
            results = run_detection(run, out, text, workers, console)
        say(console, as_tables(results))
        return
    with sigterm_as_exception():
        if run.comparison.num_splits == 1:
            comparison = run_comparison(
                run, out, text, options.run, workers, console, minutes=options.minutes
            )
        elif options.run:
            raise ConfigError(
                "--run cannot be used with comparison.num_splits above 1, as a run has one split; leave it "
                "out"
            )
        else:
            comparison = compare_on_splits(run, out, text, workers, console, minutes=options.minutes)
    print_comparison(comparison, console)
    say(console, f"comparison: {out / 'compare.html'}")


def export(options: argparse.Namespace) -> None:
    """Write the model as an ONNX file into its folder."""
    path, agreement = export_model(options.model, "onnx-int8" if options.int8 else "onnx", data=options.data)
    say(SafeConsole(), f"{agreement.summary}\n{path}")
