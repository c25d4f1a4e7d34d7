import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wirebert.training.parallel.process_group import Communicator
from wirebert.training.parallel.summed_buffer import (
    ALIGNMENT,
    CollectiveSums,
    part_bounds,
    reaches_all,
    summed_buffer,
)

WORLD = Communicator(0, 2)


@given(st.integers(0, 100), st.integers(1, 400), st.integers(1, 9))
def test_parts_make_up_the_range_in_order_and_begin_at_16_bytes(first: int, size: int, num_parts: int):
    start = first * ALIGNMENT
    parts = part_bounds(start, start + size, num_parts)
    assert [number for part in parts for number in range(*part)] == list(range(start, start + size))
    assert len(parts) == num_parts
    assert all(begin % ALIGNMENT == 0 for begin, _ in parts)


@given(st.integers(1, 100), st.integers(2, 9))
def test_no_part_is_much_longer_than_another(size: int, num_parts: int):
    lengths = [end - start for start, end in part_bounds(0, size * ALIGNMENT, num_parts)]
    assert max(lengths) - min(lengths) <= 2 * ALIGNMENT


def test_a_cpu_adds_up_by_collectives():
    assert isinstance(summed_buffer(8, torch.device("cpu"), WORLD), CollectiveSums)


@pytest.mark.parametrize(
    ("local_ranks", "num_gpus", "is_reached", "copies"),
    [
        ("2", 2, True, True),
        ("1", 2, True, False),
        (None, 2, True, False),
        ("2", 1, True, False),
        ("2", 2, False, False),
    ],
)
def test_gpus_copy_where_all_ranks_are_on_one_machine_and_reach_each_other(
    monkeypatch: pytest.MonkeyPatch, local_ranks: str | None, num_gpus: int, is_reached: bool, copies: bool
):
    if local_ranks is None:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local_ranks)

    def reach(_own: int, _other: int) -> bool:
        return is_reached

    monkeypatch.setattr("torch.cuda.device_count", lambda: num_gpus)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.can_device_access_peer", reach)
    assert reaches_all(WORLD) == copies


SUMS = """
import os, torch, torch.distributed as dist
from wirebert.training.parallel.process_group import init_process_group
from wirebert.training.parallel.summed_buffer import CollectiveSums, PeerCopies, summed_buffer

with init_process_group(os.environ) as crew:
    world, device = crew.communicator, torch.device("cuda")
    size = 4_000_004
    copied = summed_buffer(size, device, world)
    assert isinstance(copied, PeerCopies)
    summed = CollectiveSums(size, device, world)
    torch.manual_seed(world.rank)
    given = torch.randn(size, device=device)

    def add_up(buffer):
        buffer.numbers.copy_(given)
        for start in range(0, size, 1_000_000):
            buffer.begin(start, min(size, start + 1_000_000))
        buffer.finish()
        return buffer.numbers.clone()

    for _ in range(20):
        ours, theirs = add_up(copied), add_up(summed)
        assert torch.equal(ours, theirs) if world.size == 2 else torch.allclose(ours, theirs, atol=1e-5)
        given.mul_(1.5)

    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        recorded = add_up(copied)
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    for _ in range(20):
        given.mul_(0.5)
        graph.replay()
        assert torch.allclose(recorded, add_up(summed), rtol=1e-6)
    graph.reset()
    os.write(1, b"equal %d\\n" % world.rank)  # at once: two processes write there
"""


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
def test_copies_between_gpus_give_the_sums_of_nccl_recorded_or_not():
    program = textwrap.dedent(SUMS)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    done = subprocess.run(
        [*launch, sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "equal 0" in done.stdout
    assert "equal 1" in done.stdout
