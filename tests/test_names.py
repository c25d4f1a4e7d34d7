"""Coined names do not come back, and a public name means one thing within a room."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "wirebert"

# Each had a standard word (docs/decisions.md): the word is used in names, whatever prose says.
COINED = frozenset(
    """
    Lesson taught Ground Strangeness strangeness addends Crew crew add_up Entrant entrant Stand Standing
    Contender Contrast Surprise Office Vote Onlooker Picture Tally tally Totals Misfit Misfits misfit
    misfits SetAside Intake intake Survey survey Rival Rivals rival rivals RIVALS KeyTable RecentRows
    Growing Coding Dense Ragged FlatRows Watched Aside aside Allowance Judged judged judge harmless
    is_tilted tilts_classes guesses passed_over settle dismiss doubts mistaken alarm misread beside
    """.split()
)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_paths() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all definitions, arguments, assigned names, attributes, keywords and imports."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg() | ast.keyword():
                yield node.lineno, node.arg or ""
            case ast.Name():
                yield node.lineno, node.id
            case ast.Attribute():
                yield node.lineno, node.attr
            case ast.alias():
                yield from ((node.lineno, part) for part in node.name.split("."))
                yield node.lineno, node.asname or ""
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                yield node.lineno, node.name or ""
            case _:
                pass


def public_definitions(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants of a module without an underscore in front."""
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


@pytest.mark.parametrize("path", module_paths(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_name_is_a_coined_word(path: Path):
    found = {
        f"{name} (line {line})" for line, name in identifiers(tree_of(path)) if name.lstrip("_") in COINED
    }
    parts = {part for part in path.relative_to(SOURCE).with_suffix("").parts if part in COINED}
    assert not found | parts


def test_a_coined_word_is_found_wherever_a_name_can_be():
    places = (
        "def taught(): ...",
        "class Lesson: ...",
        "def f(crew): ...",
        "f(crew=1)",
        "alarm = 1",
        "x.addends",
        "import a.settle",
        "from a import b as judge",
        "try: ...\nexcept E as doubts: ...",
        "for tally in x: ...",
        "match x:\n case rival: ...",
    )
    for place in places:
        assert {name for _, name in identifiers(ast.parse(place))} & COINED, place
    assert not {name for _, name in identifiers(ast.parse("'''taught'''\nx = 'crew'  # alarm"))} & COINED


def test_public_names_are_unique_within_a_room():
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in module_paths():
        place = path.relative_to(SOURCE)
        if place.name != "__init__.py":  # it passes on names of others
            for name in set(public_definitions(tree_of(path))):
                owners[place.parts[0], name].append(str(place))
    assert {name: paths for name, paths in owners.items() if len(paths) > 1} == {}
