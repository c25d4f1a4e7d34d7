import inspect

import pytest

from wirebert import errors
from wirebert.errors import Terminated, UserError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind is not Terminated and not issubclass(kind, Warning)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_ours_is_one_that_the_user_can_fix(kind: type[Exception]) -> None:
    assert issubclass(kind, UserError)
    assert kind.__doc__
    assert str(kind("flows.csv: expected rows, found none")) == "flows.csv: expected rows, found none"


def test_a_bug_is_no_error_that_the_user_can_fix() -> None:
    assert not issubclass(ValueError, UserError)
    assert not issubclass(AssertionError, UserError)
    assert not issubclass(UserError, ValueError | OSError | KeyError)


def test_being_told_to_end_is_met_like_ctrl_c_and_is_no_mistake() -> None:
    assert issubclass(Terminated, KeyboardInterrupt)
    assert not issubclass(Terminated, UserError | Exception)
