from wirebert.encoding.slots import Slot

SLOT = Slot(
    name="src bytes", marks=("<missing>", "<rare>"), values=("0", "q0"), default=2, shown=("0", "q0 [1, 2]")
)


def test_a_token_is_its_slot_and_its_value_and_holds_no_white_space():
    assert SLOT.tokens == (
        "src%20bytes:<missing>",
        "src%20bytes:<rare>",
        "src%20bytes:0",
        "src%20bytes:q0",
    )


def test_people_read_what_a_bin_holds():
    assert SLOT.texts == ("<missing>", "<rare>", "0", "q0 [1, 2]")
    assert len(SLOT) == 4
