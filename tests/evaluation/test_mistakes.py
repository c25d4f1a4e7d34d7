import numpy as np

from wirebert.evaluation.mistakes import NUM_MISTAKES, PER_CONFUSION, surest_mistakes


def choose(probabilities: list[float], confusions: list[int], hashes: list[int]) -> list[int]:
    arrays = np.array(probabilities), np.array(confusions, dtype=np.int64), np.array(hashes, dtype=np.uint64)
    return surest_mistakes(*arrays).tolist()


def test_the_surest_come_first_and_of_equals_the_first() -> None:
    assert choose([0.5, 0.9, 0.7, 0.9], [0, 1, 2, 3], [1, 2, 3, 4]) == [1, 3, 2, 0]


def test_flows_that_look_alike_are_shown_once_per_confusion() -> None:
    assert choose([0.5, 0.9, 0.8, 0.7], [0, 0, 0, 1], [7, 7, 8, 7]) == [1, 2, 3]


def test_no_confusion_takes_all_places() -> None:
    many = 100
    chosen = choose([0.9] * many + [0.1], [0] * many + [1], list(range(many + 1)))
    assert chosen == [*range(PER_CONFUSION), many]
    assert len(choose([0.5] * 100, list(range(100)), list(range(100)))) == NUM_MISTAKES


def test_without_mistakes_none_is_chosen() -> None:
    assert choose([], [], []) == []
