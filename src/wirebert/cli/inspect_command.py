"""The command `inspect`."""

import argparse
from contextlib import closing

from wirebert.cli.arguments import DATA_OPTIONS, executor_of, given_options
from wirebert.config import find_recipe, resolve_run
from wirebert.console import SafeConsole
from wirebert.data.schema.library import write_schema
from wirebert.workflows.findings import require_no_warnings
from wirebert.workflows.inspect import inspect_data, show_inspection


def inspect(options: argparse.Namespace) -> None:
    """Show format, columns, classes and findings of a file."""
    given: dict[str, object] = {"train": options.data, "data": given_options(options, *DATA_OPTIONS)}
    recipe = None if options.recipe is None else find_recipe(options.recipe)
    run = resolve_run(recipe, options.overrides, given)
    is_sharded = options.workers is not None or options.cluster is not None
    with closing(executor_of(options)) as executor:
        inspection = inspect_data(options.data, run.data, options.test, executor if is_sharded else None)
    if options.write_schema is not None:
        write_schema(inspection.flows.schema, options.write_schema)
    if options.json:
        print(inspection.to_json())
    else:
        show_inspection(inspection, SafeConsole(), options.data)
    require_no_warnings(inspection.findings, strict=options.strict, can_accept=True)
