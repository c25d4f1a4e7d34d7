from wirebert.plurals import counted


def test_only_one_thing_has_no_plural():
    assert [counted(count, "flow") for count in (0, 1, 2)] == ["0 flows", "1 flow", "2 flows"]
    assert counted(1, "line is skipped", "lines are skipped") == "1 line is skipped"
    assert counted(1_200, "line is skipped", "lines are skipped") == "1,200 lines are skipped"
