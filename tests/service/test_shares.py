from hypothesis import given
from hypothesis import strategies as st

from wirebert.service.shares import Shares


def test_one_client_leaves_a_quarter_to_others():
    places = Shares(100)
    assert sum(places.take("greedy", 1) for _ in range(200)) == 75
    assert sum(places.take("other", 1) for _ in range(200)) == 25
    places.give_back("greedy", 50)
    assert places.take("other", 20)


def test_two_places_are_for_whoever_comes():
    places = Shares(2)
    assert [places.take("a", 1) for _ in range(3)] == [True, True, False]


@given(st.integers(1, 50), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20))))
def test_what_is_taken_is_never_more_than_there_is_and_comes_back(total: int, asked: list[tuple[str, int]]):
    shares, taken = Shares(total), list[tuple[str, int]]()
    for client, amount in asked:
        if shares.take(client, amount):
            taken.append((client, amount))
        assert shares.taken == sum(amount for _, amount in taken) <= total
    for client, amount in taken:
        shares.give_back(client, amount)
    assert shares.taken == 0
