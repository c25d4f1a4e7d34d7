"""What is public, and that it costs nothing until it is used."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wirebert as wb

ROOT = Path(__file__).resolve().parent.parent

PUBLIC = """Detector Evaluation FindingWarning Traffic UserError WirebertClassifier __version__ compare
inspect load open train""".split()
"""A name is removed only after a version in which it warns; see docs/python.md."""

METHODS = {
    "Detector": """artifact calibrate classes evaluate explain features folder predict predict_batches
    predict_proba push_to_hub report save scorer""".split(),
    "Evaluation": "metrics page per_class report to_csv to_latex".split(),
    "Traffic": "blocks columns features findings flows label source".split(),
}


def test_what_is_public_is_on_this_list():
    assert dir(wb) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(wb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wb.nothing  # noqa: B018  # pyright: ignore


def test_the_stub_names_what_is_public():
    tree = ast.parse((ROOT / "src" / "wirebert" / "__init__.pyi").read_text(encoding="utf-8"))
    imported = {
        alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assigned = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    assert (imported - {None}) | assigned | {"__version__"} == set(PUBLIC)


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_on_this_list_and_say_what_they_give(name: str):
    tree = ast.parse((ROOT / f"src/wirebert/api/{name.lower()}.py").read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name).body
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    attributes = {
        target.attr
        for node in ast.walk(ast.Module(body, []))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
    }
    fields = {
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert {one for one in defined | attributes | fields if not one.startswith("_")} == set(METHODS[name])


def test_importing_takes_no_time_and_imports_nothing():
    program = (
        "import time; start = time.perf_counter(); import wirebert; took = time.perf_counter() - start\n"
        "import sys; heavy = {'torch', 'pyarrow', 'numpy', 'sklearn', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\nprint(took)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.2, time.perf_counter() - started


@pytest.mark.slow
def test_verdicts_are_given_without_pytorch_and_scikit_learn(trained: Path, traffic: Path):
    program = (
        "import sys, warnings, wirebert as wb; warnings.simplefilter('ignore')\n"
        f"wb.load({str(trained)!r}).predict({str(traffic / 'test.csv')!r})\n"
        "heavy = {'torch', 'sklearn', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
