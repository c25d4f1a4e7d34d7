"""What a rank failed with decides; the ranks themselves are in tests/workflows/test_train_on_cluster.py."""

import pytest

from wirebert.cluster.ray_ranks import raise_cause
from wirebert.errors import DataError, RankLostError, TrainingError


class WithTracebackError(Exception):
    """As Ray Train wraps what the function of a rank raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("a traceback")
        self._base_exc = cause


class RayActorError(Exception):
    """Named as Ray's own: the process has ended."""


LOST = WithTracebackError(RankLostError("rank 1: another process ended"))


@pytest.mark.parametrize("own", [DataError("no rows"), TrainingError("loss"), ZeroDivisionError("a bug")])
def test_the_error_of_a_rank_is_raised_and_not_what_the_others_saw_of_it(own: Exception):
    with pytest.raises(type(own)) as raised:
        raise_cause([LOST, WithTracebackError(SystemExit(2)), WithTracebackError(own), RayActorError()])
    assert raised.value is own


def test_a_sentence_for_the_user_goes_before_a_traceback():
    with pytest.raises(DataError):
        raise_cause([WithTracebackError(ZeroDivisionError()), WithTracebackError(DataError("no rows"))])


def test_the_death_of_a_process_is_no_error_of_the_others():
    raise_cause([RayActorError(), LOST, WithTracebackError(SystemExit(2))])
