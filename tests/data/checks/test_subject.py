from wirebert.data.checks.subject import present


def test_classes_without_rows_are_not_present():
    assert present({"a": 0, "b": 2}) == {"b": 2}
