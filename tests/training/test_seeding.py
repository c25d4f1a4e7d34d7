from itertools import product

from wirebert.training.seeding import Purpose, mix


def test_splitmix64_gives_the_published_first_number():
    # The first output of splitmix64 from state 0, without its lowest bit.
    assert mix(0) == 0xE220A8397B1DCDAF >> 1


def test_seeds_of_nearby_steps_and_purposes_all_differ():
    seeds = {mix(*numbers) for numbers in product(range(5), Purpose, range(20), range(20))}
    assert len(seeds) == 5 * len(Purpose) * 20 * 20


def test_seed_fits_what_torch_and_numpy_take():
    assert all(0 <= mix(-1, number) < 2**63 for number in range(1000))
