import traceback
from itertools import product

import pytest
import torch

from wirebert.training.seeding import Purpose, mix, seed_generators


def test_splitmix64_gives_the_published_first_number():
    # The first output of splitmix64 from state 0, without its lowest bit.
    assert mix(0) == 0xE220A8397B1DCDAF >> 1


def test_seeds_of_nearby_steps_and_purposes_all_differ():
    seeds = {mix(*numbers) for numbers in product(range(5), Purpose, range(20), range(20))}
    assert len(seeds) == 5 * len(Purpose) * 20 * 20


def test_seed_fits_what_torch_and_numpy_take():
    assert all(0 <= mix(-1, number) < 2**63 for number in range(1000))


def test_generators_are_seeded_as_by_torch_without_a_traceback_of_each_call(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(mix(3))
    expected = torch.rand(5)
    calls: list[int] = []

    def formatted() -> list[str]:
        calls.append(1)
        return []

    monkeypatch.setattr(traceback, "format_stack", formatted)
    seed_generators(mix(3), torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    assert not calls
