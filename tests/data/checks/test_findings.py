import numpy as np

from wirebert.data.checks.findings import present, row_name, rows_of, some


def test_words_for_people():
    assert row_name(np.array([False, True])) == "row 2"
    assert rows_of(1, 8) == "1 of 8 rows (12.5 %)"
    assert some(["a", "b", "c"], limit=2) == "'a', 'b' and 1 more"
    assert present({"a": 0, "b": 2}) == {"b": 2}
