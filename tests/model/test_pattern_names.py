import pytest

from wirebert.errors import ConfigError
from wirebert.model.pattern_names import check_pattern, import_pattern, window_reach


@pytest.mark.parametrize(
    ("name", "reach"),
    [("window:3", 3), ("window:0", None), ("window:", None), ("window:-1", None), ("full", None)],
)
def test_the_reach_of_a_window_is_a_positive_number(name: str, reach: int | None):
    assert window_reach(name) == reach


@pytest.mark.parametrize("name", ["full", "columns", "window:1"])
def test_known_patterns_are_accepted(name: str):
    check_pattern(name)


def test_a_function_is_accepted_once_its_user_has_imported_it():
    with pytest.raises(ConfigError, match="`import_pattern` it before"):
        check_pattern("operator:and_")
    import_pattern("operator:and_")
    check_pattern("operator:and_")


@pytest.mark.parametrize("name", ["operator:no_such_function", "no.such.module:f", "window:f"])
def test_a_function_that_cannot_be_imported_is_refused(name: str):
    with pytest.raises(ConfigError, match="attention_pattern must be"):
        import_pattern(name)
