import pytest

from wirebert.errors import ConfigError
from wirebert.service.limits import Limits


def test_memory_for_all_bodies_grows_with_the_largest_one():
    assert Limits(max_body_mb=3, max_held_bodies=4).max_held_bytes == 12 << 20


@pytest.mark.parametrize("given", [{"max_body_mb": 0}, {"max_rows": 0}, {"max_queue": 0}])
def test_a_limit_that_lets_nothing_through_is_refused(given: dict[str, int]):
    with pytest.raises(ConfigError, match=f"--{next(iter(given)).replace('_', '-')} must be"):
        Limits(**given)  # pyright: ignore[reportArgumentType]
