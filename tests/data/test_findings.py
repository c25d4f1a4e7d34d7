import numpy as np

from wirebert.data.findings import CODES, format_names, format_row_count, row_name


def test_words_for_people():
    assert row_name(np.array([False, True])) == "row 2"
    assert format_row_count(1, 8) == "1 of 8 rows (12.5 %)"
    assert format_names(["a", "b", "c"], limit=2) == "'a', 'b' and 1 more"


def test_each_code_stands_once():
    assert len(set(CODES)) == len(CODES)
