"""Documents that repeat what the code says can not drift from it."""

import argparse
import ast
import inspect
import os
import re
import sys
import textwrap
import tomllib
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import pytest

import wirebert

ROOT = Path(__file__).resolve().parent.parent
CLI_PAGE = ROOT / "docs" / "cli.md"
INTRODUCTION = """\
# Command line

<!-- Written by `make reference` from the --help texts; change those, not this page. -->
"""


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands of `parser`, by name."""
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]  # argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # pyright: ignore[reportPrivateUsage]
            return dict(action.choices)
    return {}


def render_cli_reference(parser: argparse.ArgumentParser) -> str:
    """The page docs/cli.md: the help of the program and of each of its commands."""
    sections = [INTRODUCTION, f"```text\n{parser.format_help().strip()}\n```\n"]
    for name, command in commands_of(parser).items():
        sections.append(f"## wirebert {name}\n\n```text\n{command.format_help().strip()}\n```\n")
    return "\n".join(sections)


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="argparse lays out its help differently from Python 3.13 on"
)
def test_the_command_line_page_is_what_help_prints(request: pytest.FixtureRequest):
    from wirebert.cli.main import build_parser

    page = render_cli_reference(build_parser())
    if request.config.getoption("--update-docs"):
        CLI_PAGE.write_text(page, encoding="utf-8")
    assert CLI_PAGE.read_text(encoding="utf-8") == page, (
        "docs/cli.md is not what --help prints; run `make reference`"
    )


API_PAGE = ROOT / "docs" / "api.md"
API_INTRODUCTION = """\
# Python reference

<!-- Written by `make reference` from the docstrings; change those, not this page. -->

Everything that is public: `import wirebert as wb`, then `wb.NAME`. [wirebert in Python](python.md) shows the
way. On the site each name links to its source.
"""


def render_function(node: ast.FunctionDef, owner: str) -> str:
    """The signature and docstring of a function; a property has no parentheses."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    if any(ast.unparse(one) == "property" for one in node.decorator_list):
        head = f"{owner}.{node.name}: {ast.unparse(node.returns) if node.returns else ''}"
    else:
        given = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
        head = f"{owner}.{node.name}({given})"
        head += f" -> {ast.unparse(node.returns)}" if node.returns else ""
    head = "\n    ".join(textwrap.wrap(head, 100))
    return f"```text\n{head}\n\n{textwrap.indent(text, '    ')}\n```\n"


def render_api_reference() -> str:
    """The page docs/api.md: every public function, and every public method of every public class."""
    sections = [API_INTRODUCTION]
    for name in dir(wirebert):
        found = getattr(wirebert, name)
        if isinstance(found, str):
            continue
        tree = ast.parse(Path(inspect.getfile(sys.modules[found.__module__])).read_text(encoding="utf-8"))
        node = next(one for one in tree.body if getattr(one, "name", None) == found.__name__)
        sections.append(f"## {name}\n")
        if isinstance(node, ast.FunctionDef):
            node.name = name
            sections.append(render_function(node, "wirebert"))
            continue
        assert isinstance(node, ast.ClassDef)
        sections.append(f"```text\n{inspect.cleandoc(ast.get_docstring(node) or '')}\n```\n")
        sections += [
            render_function(one, name)
            for one in node.body
            if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")
        ]
    return "\n".join(sections)


def test_the_python_page_is_what_docstrings_say(request: pytest.FixtureRequest):
    page = render_api_reference()
    if request.config.getoption("--update-docs"):
        API_PAGE.write_text(page, encoding="utf-8")
    assert API_PAGE.read_text(encoding="utf-8") == page, (
        "docs/api.md is not what docstrings say; run `make reference`"
    )


SETTINGS_PAGE = ROOT / "docs" / "settings.md"
SETTINGS_INTRODUCTION = """\
# Settings

<!-- Written by `make reference` from the settings dataclasses; change those, not this page. -->

A recipe is a TOML file of these settings; `--set SECTION.NAME=VALUE` sets one on the command line. A setting
that may be unset has no value in TOML: leave it out, or write `none`. `run.toml` of a finished run holds the
value of every setting.
"""
KIND_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def kind_words(hint: Any) -> str:
    """The type of a setting in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{arg}`" for arg in args)
    if origin in (Union, types.UnionType):
        return " or ".join("unset" if arg is type(None) else kind_words(arg) for arg in args)
    if origin is tuple:
        return f"list of {kind_words(args[0])}"
    if origin is not None:
        return f"table of {kind_words(args[1])}"
    return KIND_WORDS[hint]


def shown_default(value: object) -> str:
    """The default of a setting as TOML writes it."""
    if value is None:
        return "unset"
    if isinstance(value, str | tuple):
        return f"`{list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value!r}`".replace(
            "'", '"'
        )
    return f"`{str(value).lower()}`"


def settings_tables(settings: Any, section: str, note: str = "") -> Iterator[str]:
    """One table for the settings of a section and one for each section inside."""
    from wirebert.serialization import field_texts

    hints, texts = get_type_hints(type(settings)), field_texts(type(settings))
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    sections: list[tuple[str, object]] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            sections.append((field.name, value))
            continue
        name = f"{section}.{field.name}" if section else field.name
        cells = (
            f"`{name}`",
            kind_words(hints[field.name]),
            shown_default(value),
            " ".join(texts[field.name].split()),
        )
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    yield f"## {section or 'Top level'}\n\n{note}" + "\n".join(rows) + "\n"
    for name, value in sections:
        yield from settings_tables(value, name)


def render_settings_reference() -> str:
    """The page docs/settings.md: every setting of training and, where they differ, of `learn`."""
    from wirebert.config import LearnConfig, RunConfig

    only_learn = "Settings of `wirebert learn` only.\n\n"
    masking = settings_tables(LearnConfig().masking, "masking", only_learn)
    surprisal = settings_tables(LearnConfig().surprisal, "surprisal", only_learn)
    return "\n".join([SETTINGS_INTRODUCTION, *settings_tables(RunConfig(), ""), *masking, *surprisal])


def test_the_settings_page_is_what_the_dataclasses_say(request: pytest.FixtureRequest):
    page = render_settings_reference()
    if request.config.getoption("--update-docs"):
        SETTINGS_PAGE.write_text(page, encoding="utf-8")
    assert SETTINGS_PAGE.read_text(encoding="utf-8") == page, (
        "docs/settings.md is not what the settings dataclasses say; run `make reference`"
    )


def test_every_place_names_the_same_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["version"] == wirebert.__version__
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [wirebert.__version__]


def test_the_changelog_begins_with_the_current_version_or_what_is_unreleased():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert headings[0] in (wirebert.__version__, "Unreleased")
    assert wirebert.__version__ in headings


def test_every_change_stands_in_a_group_that_appears_once():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        groups = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert set(groups) <= {"Added", "Changed", "Fixed", "Removed"}
        assert len(groups) == len(set(groups))
        assert not re.search(r"^- ", section.partition("\n### ")[0], re.MULTILINE), (
            "a change outside of the groups"
        )


def test_the_readme_is_short_and_its_pictures_are_small():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 2
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 200_000, picture


def settings_of(settings: Any, prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def test_every_setting_that_replaced_another_exists():
    """The table at the head of docs/experiments.md, whose entries keep the old names."""
    from wirebert.config import LearnConfig, RunConfig

    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    table = page.partition("## Renamed settings")[2].partition("## ")[0]
    settings = {name for kind in (RunConfig, LearnConfig) for name in settings_of(kind())}
    renamed = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`", table, re.MULTILINE)
    assert len(renamed) > 20
    for old, new in renamed:
        assert new in settings, f"{new}, once {old}"
        assert old not in settings, old


def test_every_dependency_is_pinned_for_a_fresh_machine():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        name for extra in project["optional-dependencies"].values() for name in extra
    ]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9-]+)==[0-9][0-9a-z.]*$", constraints, re.MULTILINE)
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-").replace(".", "-")
        assert name in pinned, f"{requirement} is not in constraints.txt"


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").glob("*.md")) + sorted(ROOT.glob("*.md")), ids=lambda page: page.name
)
def test_links_between_documents_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), (
                f"{page.name} links to {target}, which is not there"
            )


def test_the_pipeline_runs_the_test_command_and_nothing_else():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in script if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(
    "recipe", sorted((ROOT / "src" / "wirebert" / "recipes").glob("*.toml")), ids=lambda recipe: recipe.stem
)
def test_every_setting_of_a_recipe_exists(recipe: Path):
    from wirebert.config import resolve_run

    resolve_run(recipe)
