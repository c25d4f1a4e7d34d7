"""The command `inspect`."""

import argparse
import sys
from contextlib import closing
from functools import partial

from wirebert.cli.arguments import DATA_OPTIONS, executor_of, given_options
from wirebert.data.config import DataConfig
from wirebert.errors import ConfigError
from wirebert.untrusted_text import escape_control_chars
from wirebert.workflows.findings import require_no_warnings
from wirebert.workflows.inspect import Inspection, inspect_data, plain_lines


def inspect(options: argparse.Namespace) -> None:
    """Show format, columns, classes and findings of a file."""
    inspection = _inspection(options)
    if options.write_schema is not None:
        from wirebert.data.schema.library import write_schema

        write_schema(inspection.flows.schema, options.write_schema)
    if options.json:
        print(inspection.to_json())
    elif sys.stdout.isatty():
        from wirebert.console import SafeConsole
        from wirebert.workflows.inspect_terminal import show_inspection

        show_inspection(inspection, SafeConsole(), options.data)
    else:
        for line in plain_lines(inspection, options.data):
            print(escape_control_chars(line))
    require_no_warnings(inspection.findings, strict=options.strict, can_accept=True)


def _inspection(options: argparse.Namespace) -> Inspection:
    config = _data_config(options)
    if options.workers is None and options.cluster is None:
        return inspect_data(options.data, config, options.test)
    if options.data == "-":
        raise ConfigError("--workers and --cluster are for files: no standard input (-)")
    from wirebert.cluster.profile import profile_by_shards  # here, as it takes a while to load

    with closing(executor_of(options)) as executor:
        return inspect_data(options.data, config, options.test, partial(profile_by_shards, executor=executor))


def _data_config(options: argparse.Namespace) -> DataConfig:
    given = given_options(options, *DATA_OPTIONS)
    if options.recipe is None and not options.overrides:
        return DataConfig(**given | {"drop": tuple(options.drop or ())})  # pyright: ignore[reportArgumentType]
    from wirebert.config import find_recipe, resolve_run  # here, as the settings of a training take a while

    recipe = None if options.recipe is None else find_recipe(options.recipe)
    return resolve_run(recipe, options.overrides, {"train": options.data, "data": given}).data
