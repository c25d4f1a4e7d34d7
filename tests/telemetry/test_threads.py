import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from wirebert.telemetry.threads import SPIN_COUNT
from wirebert.workflows import ranks
from wirebert.workflows.ranks import Ranks

IMPORT = "from wirebert.telemetry.threads import import_pytorch; import_pytorch()"
CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_counts(program: str, **chosen: str) -> list[str]:
    """How long threads spin in each copy of GNU's OpenMP that the program loads, as the copy tells it."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | chosen,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    return [line.partition("=")[2].strip(" '") for line in lines]


@pytest.mark.slow
def test_threads_of_pytorch_sleep_soon_and_those_of_other_libraries_as_ever():
    program = f"{IMPORT}; import os, sklearn.ensemble; assert 'GOMP_SPINCOUNT' not in os.environ"
    pytorch, *others = spin_counts(program)
    assert pytorch == SPIN_COUNT
    assert others
    assert SPIN_COUNT not in others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "count"),
    [({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_what_the_user_chose_stays(chosen: dict[str, str], count: str):
    assert spin_counts(f"{IMPORT}; import os; assert {chosen}.items() <= os.environ.items()", **chosen) == [
        count
    ]


@pytest.mark.slow
def test_the_library_imports_pytorch_so():
    assert spin_counts("import wirebert; wirebert.train")[0] == SPIN_COUNT


def test_a_training_imports_pytorch_so(monkeypatch: pytest.MonkeyPatch):
    def stop() -> None:
        raise InterruptedError

    monkeypatch.setattr(ranks, "import_pytorch", stop)
    with pytest.raises(InterruptedError), Ranks(1).joined():
        pass


def test_other_ranks_are_started_before_pytorch_is_imported(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []

    @contextmanager
    def start(_number: int) -> Generator[None]:
        done.append("others start")
        yield

    monkeypatch.setattr(ranks, "other_ranks", start)
    monkeypatch.setattr(ranks, "import_pytorch", lambda: done.append("import"))
    with Ranks(2).joined():
        assert done == ["others start", "import"]
