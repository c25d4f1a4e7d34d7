"""The command `datasets`."""

import argparse
from collections.abc import Iterable

from rich.console import Console

from wirebert.console import SafeConsole, say
from wirebert.data.registry import Checked, DataSet, bibtex, known_datasets, verify


def datasets(options: argparse.Namespace) -> None:
    """List public data sets, cite them, or verify files."""
    console = SafeConsole()
    if options.action == "verify":
        show_checked(verify(options.folder), console)
    elif options.action == "cite":
        console.print(bibtex(options.names), end="", highlight=False, markup=False, soft_wrap=True)
    else:
        show_datasets(known_datasets().values(), console)


def show_datasets(data_sets: Iterable[DataSet], console: Console) -> None:
    """Print a paragraph for each data set."""
    for data_set in data_sets:
        console.print(f"[bold]{data_set.name}[/bold]: {data_set.title}", highlight=False)
        lines = {
            "cite": str(data_set.citation),
            "licence": data_set.licence,
            "page": data_set.homepage,
            "schema": data_set.schema or "inferred",
            "label": data_set.label,
            "split": data_set.split,
        }
        for name, text in lines.items():
            say(console, f"  {name}: {text}")
        for file in data_set.files:
            checksum = f"sha256 {file.sha256}" if file.sha256 else "unverified"
            say(console, f"  {file.role}: {file.name} {checksum}")
        if not data_set.files:
            say(console, "  files: unverified")


def show_checked(files: Iterable[Checked], console: Console) -> None:
    """Print a line for each file, and an explanation for changed files."""
    for checked in files:
        known = f" {checked.data_set}/{checked.file}" if checked.data_set else ""
        say(console, f"{checked.status:9}{known} {checked.path}")
        if checked.status == "changed":
            say(console, f"          its sha256 {checked.sha256} differs from the published file")
