import numpy as np

from wirebert.data.checks.findings import format_names, format_row_count, present, row_name


def test_words_for_people():
    assert row_name(np.array([False, True])) == "row 2"
    assert format_row_count(1, 8) == "1 of 8 rows (12.5 %)"
    assert format_names(["a", "b", "c"], limit=2) == "'a', 'b' and 1 more"
    assert present({"a": 0, "b": 2}) == {"b": 2}
