import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.training import feeding
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import (
    LabelledFlows,
    StepFlows,
    choose_workers,
    describe_feeding,
    epoch_order,
    micro_batches,
    steps,
    steps_per_epoch,
)

MakeFlows = Callable[..., LabelledFlows]


def test_order_is_a_permutation_that_changes_with_seed_and_epoch():
    first = epoch_order(100, seed=1, epoch=0)
    assert sorted(first) == list(range(100))
    assert np.array_equal(first, epoch_order(100, seed=1, epoch=0))
    assert not np.array_equal(first, epoch_order(100, seed=1, epoch=1))
    assert not np.array_equal(first, epoch_order(100, seed=2, epoch=0))


def test_taken_rows_are_the_chosen_ones():
    rows = JaggedRows(np.array([1, 5, 1, 6, 7, 1], dtype=np.uint16), np.array([0, 2, 5, 6]))
    taken = take_rows(rows, np.array([2, 0, 1]))
    assert taken.ids.tolist() == [1, 1, 5, 1, 6, 7]
    assert taken.offsets.tolist() == [0, 1, 3, 6]


def test_every_flow_is_seen_once_an_epoch_in_a_short_last_step_too(make_flows: MakeFlows):
    flows = make_flows(25)
    fed = list(steps(flows, TrainConfig(epochs=2, batch_size=10), seed=0))
    assert [len(step.class_ids) for step in fed] == [10, 10, 5, 10, 10, 5]
    assert [step.epoch for step in fed] == [0, 0, 0, 1, 1, 1]
    for epoch in (fed[:3], fed[3:]):
        assert sum(len(step.rows.ids) for step in epoch) == len(flows.ids)
        seen = np.concatenate([step.class_ids for step in epoch])
        assert np.array_equal(np.sort(seen), np.sort(flows.class_ids))


def test_steps_are_the_same_wherever_the_iterator_starts(make_flows: MakeFlows):
    flows, config = make_flows(50), TrainConfig(epochs=3, batch_size=8)
    fed = list(steps(flows, config, seed=4))
    for first_step in (1, steps_per_epoch(50, 8), 12):
        later = list(steps(flows, config, seed=4, first_step=first_step))
        assert [step.step for step in later] == [step.step for step in fed[first_step:]]
        for one, other in zip(later, fed[first_step:], strict=True):
            assert np.array_equal(one.rows.ids, other.rows.ids)
            assert np.array_equal(one.class_ids, other.class_ids)


@pytest.mark.slow
def test_other_processes_read_the_same_steps(make_flows: MakeFlows):
    flows = make_flows(50)
    here = list(steps(flows, TrainConfig(epochs=2, batch_size=8), seed=4, first_step=3))
    there = list(steps(flows, TrainConfig(epochs=2, batch_size=8, workers=2), seed=4, first_step=3))
    assert [step.step for step in there] == [step.step for step in here] == list(range(3, 14))
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one.rows.ids, other.rows.ids)
        assert np.array_equal(one.class_ids, other.class_ids)


def test_flows_that_fit_into_memory_need_no_other_processes(
    make_flows: MakeFlows, monkeypatch: pytest.MonkeyPatch
):
    flows = make_flows(50)
    assert choose_workers(flows, TrainConfig()) == 0
    assert choose_workers(flows, TrainConfig(workers=3)) == 3
    monkeypatch.setattr("wirebert.training.feeding.MAX_MEMORY_FRACTION", 0.0)
    assert 1 <= choose_workers(flows, TrainConfig()) <= 4


@pytest.mark.parametrize(
    ("device", "settings", "memory", "expected"),
    [
        ("cuda", {}, 0.5, "a thread, from memory (0.0 MB)"),
        ("cuda", {"prefetch": 0}, 0.5, "the main process, from memory (0.0 MB)"),
        ("cpu", {}, 0.5, "the main process, from memory (0.0 MB)"),
        ("cpu", {"workers": 3}, 0.5, "3 processes, from memory (0.0 MB)"),
        ("cuda", {"workers": 1}, 0.0, "1 process, from disk (0.0 MB)"),
        ("cuda", {"workers": 0}, 0.0, "a thread, from disk (0.0 MB)"),
    ],
)
def test_words_say_who_feeds_the_device_from_where(
    make_flows: MakeFlows,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    settings: dict[str, int],
    memory: float,
    expected: str,
):
    monkeypatch.setattr("wirebert.training.feeding.MAX_MEMORY_FRACTION", memory)
    config = TrainConfig(**settings)  # pyright: ignore[reportArgumentType]
    assert describe_feeding(make_flows(50), config, torch.device(device)) == expected


def test_micro_batches_hold_each_flow_once_within_the_budget(make_flows: MakeFlows):
    flows = make_flows(60)
    step = StepFlows(0, 0, take_rows(flows, np.arange(60)), flows.class_ids)
    batches = list(micro_batches(step, 40, pad_id=0, device=torch.device("cpu")))
    assert all(batch.ids.numel() <= 40 for batch in batches)
    assert sum(len(batch.class_ids) for batch in batches) == 60
    real = sum(int(batch.ids.ne(0).sum()) for batch in batches)
    assert real == len(flows.ids)


def test_no_budget_takes_the_step_at_once(make_flows: MakeFlows):
    flows = make_flows(60)
    step = StepFlows(0, 0, take_rows(flows, np.arange(60)), flows.class_ids)
    assert len(list(micro_batches(step, 0, pad_id=0, device=torch.device("cpu")))) == 1


KILLED = """
import os, sys, time
import numpy as np
from wirebert.encoding.token_rows import JaggedRows
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import steps

class Flows:
    ids = np.zeros(4000, np.uint16)
    offsets = np.arange(0, 4001, 4)
    class_ids = np.zeros(1000, np.int64)

fed = steps(Flows(), TrainConfig(epochs=50, batch_size=2, workers=2), seed=1)
next(fed)
print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read(), flush=True)
time.sleep(60)
"""


def test_a_worker_never_collects_what_its_parent_left():
    child = os.fork()
    if child == 0:
        feeding._begin_worker(0)  # pyright: ignore[reportPrivateUsage]
        os._exit(0 if gc.get_freeze_count() > 1_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.slow
def test_workers_end_with_a_training_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [int(number) for number in process.stdout.readline().split()]
        assert len(children) == 2
        process.kill()
    for _ in range(100):
        if not any(Path(f"/proc/{child}/exe").exists() for child in children):
            return
        time.sleep(0.05)
    raise AssertionError(f"workers live on: {children}")
