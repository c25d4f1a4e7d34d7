"""`train`, `inspect` and `compare` on tables and files."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from weakref import finalize

from wirebert.api.detector import Detector, load
from wirebert.api.settings import nested_settings
from wirebert.api.tables import TableData, write_traffic
from wirebert.api.traffic import Traffic, TrafficData, traffic_source
from wirebert.comparison.compare import run_comparison
from wirebert.config import RunConfig, find_recipe, recipe_for, resolve_run, sets_classes, write_run
from wirebert.console import SafeConsole
from wirebert.data.flows import find_files
from wirebert.errors import ConfigError
from wirebert.files import write_atomic
from wirebert.report.comparison import Comparison
from wirebert.run_folder import new_run_folder
from wirebert.serialization import flatten, merge
from wirebert.workflows.inspect import Inspection, inspect_data
from wirebert.workflows.report import called_as
from wirebert.workflows.train import train as train_detector


def inspect(
    data: TrafficData, *, test: TrafficData | None = None, label: str | None = None, **settings: object
) -> Inspection:
    """Format, columns, classes and findings of traffic, as `wirebert inspect` shows them.

    Args:
        test: traffic that is compared with it.
        label: the label column; None: recognised.
        settings: settings of the section `data` (docs/settings.md).

    Raises:
        UserError: the traffic cannot be read.
    """
    config = resolve_run(given=nested_settings({"label": label, **settings})).data
    with traffic_source(data) as source:
        if test is None:
            return inspect_data(source.path, config)
        with traffic_source(test, "test") as other:
            return inspect_data(source.path, config, [other.path])


def train(
    data: TrafficData,
    *,
    label: str | None = None,
    test: TrafficData | Sequence[TrafficData] | None = None,
    recipe: str | None = None,
    out: str | Path | None = None,
    verbose: bool = True,
    **settings: object,
) -> Detector:
    """Train a detector on labelled traffic, as `wirebert train` does.

    Args:
        label: the label column; None: recognised.
        test: test data, opened only after the model is saved; several as a list of paths or tables.
        recipe: name or path of a recipe; None: the one made for a published file; "none": no recipe.
        out: a new folder for the run: model, report, and the data if it is a table. None: a temporary folder,
            which is deleted with the detector.
        verbose: print progress and report.
        settings: settings by name, such as `epochs=3`, or sections, such as `training={"epochs": 3}`
            (docs/settings.md).

    Raises:
        UserError: the data cannot be read or learned from, or a setting is wrong.
    """
    with ExitStack() as undo:
        path = _folder(out, "run", undo)
        _train(path, data, _several(test), recipe, nested_settings({"label": label, **settings}), verbose)
        detector = load(path)
        undo.pop_all()
    if out is None:
        finalize(detector, shutil.rmtree, path.parent, ignore_errors=True)
    return detector


def compare(
    data: TrafficData,
    *,
    methods: Sequence[str] | None = None,
    label: str | None = None,
    test: TrafficData | Sequence[TrafficData] | None = None,
    recipe: str | None = None,
    out: str | Path | None = None,
    num_jobs: int = 1,
    verbose: bool = True,
    **settings: object,
) -> Comparison:
    """Compare wirebert with other methods on the same rows, as `wirebert compare` does.

    It starts processes: in a script, call it below `if __name__ == "__main__":`.

    Args:
        methods: xgboost, lightgbm, forest, logistic, tabm, text_svm; None: all that the data allows.
        test: test data; without it, set `test_fraction`.
        out: a folder, in which the same call resumes a stopped comparison; None: a temporary one.
        num_jobs: parallel processes.

    Raises:
        ConfigError: a method is unknown, or there is no test data.
    """
    nested = nested_settings({"label": label, "methods": methods, **settings})
    with ExitStack() as undo:
        path = _folder(out, "compare", undo)
        run, tables, found = _described(path, data, _several(test), recipe, nested)
        if not run.test and not run.data.test_fraction:
            raise ConfigError("no test data: pass test=..., or set test_fraction")
        _write_tables(tables)
        text = "" if found is None else found.read_text(encoding="utf-8")
        with called_as("wirebert.compare(...)"):
            return run_comparison(run, path, text, [], num_jobs, _console(verbose))


def _folder(out: str | Path | None, name: str, undo: ExitStack) -> Path:
    """The folder to write to; without one, a new temporary one, which `undo` deletes."""
    if out is not None:
        return Path(out)
    parent = Path(tempfile.mkdtemp(prefix="wirebert-"))
    undo.callback(shutil.rmtree, parent, ignore_errors=True)
    return parent / name


def _train(
    path: Path,
    data: TrafficData,
    tests: Sequence[TrafficData],
    recipe: str | None,
    settings: Mapping[str, object],
    verbose: bool,
) -> None:
    run, tables, found = _described(path, data, tests, recipe, settings)
    with new_run_folder(path) as folder, called_as("wirebert.train(...)"):
        _write_tables(tables)
        write_run(run, folder.run_toml)
        if found is not None:
            write_atomic(folder.recipe_toml, found.read_text(encoding="utf-8"))
        train_detector(run, folder, _console(verbose))


def _described(
    path: Path,
    data: TrafficData,
    tests: Sequence[TrafficData],
    recipe: str | None,
    settings: Mapping[str, object],
) -> tuple[RunConfig, dict[Path, TableData], Path | None]:
    """The run in the folder `path`, the tables to write before it begins, and its recipe."""
    names = ["train", *(["test"] if len(tests) == 1 else [f"test-{at + 1}" for at in range(len(tests))])]
    tables: dict[Path, TableData] = {}
    places: list[str] = []
    for name, one in zip(names, (data, *tests), strict=True):
        given = one.source.given or one.source.path if isinstance(one, Traffic) else one
        if isinstance(given, str | Path):
            find_files(str(given))  # a wrong path fails now
            places.append(str(Path(given).absolute()))
            continue
        place = (path / "traffic" / name).absolute()
        tables[place] = cast(TableData, given)
        places.append(f"{place}.{'jsonl' if isinstance(given, Sequence) else 'arrow'}")
    found = None if recipe is None else find_recipe(recipe)
    if recipe is None and not tables and not sets_classes(name for name, _ in flatten(settings)):
        found = recipe_for(places[0])
    given_run = merge(settings, {"train": places[0], "test": places[1:]})
    return resolve_run(found, given=given_run), tables, found


def _write_tables(tables: Mapping[Path, TableData]) -> None:
    for place, table in tables.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_traffic(table, place.parent, place.name)


def _several(test: TrafficData | Sequence[TrafficData] | None) -> Sequence[TrafficData]:
    """The test data one by one; a list of records is one table."""
    if test is None:
        return ()
    if isinstance(test, list | tuple) and not (test and isinstance(test[0], Mapping)):
        return cast("Sequence[TrafficData]", test)
    return (cast("TrafficData", test),)


def _console(verbose: bool) -> SafeConsole:
    console = SafeConsole()
    console.quiet = not verbose
    return console
