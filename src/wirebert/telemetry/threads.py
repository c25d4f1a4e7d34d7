"""Threads of PyTorch on cores that other processes use, too."""

import os
from contextlib import suppress
from importlib import import_module
from typing import Final

SPIN_COUNT: Final = "2000"
"""Rounds of waiting before a thread sleeps, 300,000 by default. Chosen on two cores: training takes 0.2 to
0.6 times as long beside another process, and 1.1 times alone (docs/experiments.md, 2026-12-01)."""


def import_pytorch() -> None:
    """Import PyTorch, if it is installed, so that its threads soon sleep when they wait for each other.

    GNU's OpenMP reads how long they may spin when it is loaded. Where another process wants the cores, a
    thread that spins keeps the one that it waits for from running. Other libraries have an OpenMP of their
    own, whose threads work for longer between two waits; they keep the default.
    """
    is_chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not is_chosen:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    try:
        with suppress(ModuleNotFoundError):
            import_module("torch")
    finally:
        if not is_chosen:
            del os.environ["GOMP_SPINCOUNT"]
