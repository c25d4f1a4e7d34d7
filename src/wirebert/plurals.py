"""Numbers with their nouns."""


def counted(count: int, one: str, many: str = "") -> str:
    """A number and its noun: `many`, which is `one` with an s if it is not given, for all numbers but 1.

    >>> counted(1, "flow"), counted(1_200, "flow"), counted(2, "line is skipped", "lines are skipped")
    ('1 flow', '1,200 flows', '2 lines are skipped')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
