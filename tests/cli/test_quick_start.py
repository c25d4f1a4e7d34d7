import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from wirebert.cli.main import main
sys.argv[0] = "wirebert"
assert main() == 0
print("loaded:", *sys.modules)
"""
TRAINING = {"wirebert.config", "wirebert.training", "wirebert.metrics", "wirebert.model", "wirebert.encoding"}
NOT_LOADED: dict[tuple[str, ...], set[str]] = {
    ("datasets", "list"): {"jaxtyping", "numpy.ma", "pyarrow.compute", "tokenizers"},
    ("inspect",): TRAINING
    | {"jaxtyping", "msgspec", "numpy.ma", "pandas", "pydoc", "pyarrow.parquet", "multiprocessing"}
    | {"pyarrow.json", "hashlib", "random", "tempfile", "zipfile", "importlib.resources"}
    | {"wirebert.cluster", "rich.console", "tokenizers", "asyncio", "unittest"},
}


def run(program: str, *words: str) -> str:
    """Standard output of a process."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


@pytest.mark.parametrize("words", NOT_LOADED)
def test_a_short_command_loads_nothing_that_it_does_not_need(words: tuple[str, ...], tmp_path: Path):
    (tmp_path / "flows.csv").write_text("bytes,time,label\n" + "1,2024-05-01 10:00:00,benign\n2,,scan\n" * 10)
    data = [str(tmp_path / "flows.csv")] if words == ("inspect",) else []
    loaded = run(PROGRAM, *words, *data).rpartition("loaded:")[2].split()
    assert ("pyarrow" if data else "rich") in loaded
    assert sorted(NOT_LOADED[words] & set(loaded)) == []


def test_what_is_left_out_is_there_for_those_who_want_it():
    program = """
from wirebert.cli.quick_start import leave_out_unused
leave_out_unused()
import numpy as np, pyarrow as pa, pyarrow.compute as pc
assert np.unique([2, 1, 1]).tolist() == [1, 2] and not np.ma.is_masked(np.zeros(2))
assert pc.starts_with(pa.array(["ab", "b"]), "a").to_pylist() == [True, False]
from numpy import ma
masked = ma.masked_array([1, 2], [False, True])
assert np.ma.is_masked(masked) and pa.array(masked).to_pylist() == [1, None]
try:
    import pandas
except ModuleNotFoundError:
    pass
else:
    assert pandas.Series([1]).sum() == 1
print("there")
"""
    assert run(program) == "there\n"


def test_garbage_is_looked_for_again_when_the_command_runs():
    program = """
import gc
from wirebert.cli.quick_start import collect_from_now, collect_later
collect_later()
assert not gc.isenabled()
collect_from_now()
assert gc.isenabled() and gc.get_freeze_count() > 1000
"""
    run(program)
