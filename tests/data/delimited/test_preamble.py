import pytest

from wirebert.data.delimited.preamble import names_above, read_arff
from wirebert.errors import DataError


def test_arff_without_data_or_with_sparse_rows_is_one_sentence():
    assert read_arff(["a,b\n"], "f") is None
    with pytest.raises(DataError, match="expected a line @data"):
        read_arff(["@relation r\n"], "f")
    with pytest.raises(DataError, match="sparse"):
        read_arff(["@relation r\n", "@attribute a real\n", "@data\n", "{0 1}\n"], "f")


def test_names_in_a_comment_are_taken_only_if_they_fit():
    assert names_above(["# fields: a,b\n"], 2, ",") == ("a", "b")
    assert names_above(["# fields: a,b\n"], 3, ",") is None
    assert names_above(["# note: a,b\n", "a,b\n"], 2, ",") is None
