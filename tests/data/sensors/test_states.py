import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.sensors.states import bits_of, conn_states, flag_bits, flag_texts, header_bits


def state_of(protocol: str, src: str, dst: str, *, has_src: bool = True, has_dst: bool = True) -> str:
    states = conn_states(
        pa.array([protocol]),
        np.array([flag_bits(src)], np.uint8),
        np.array([flag_bits(dst)], np.uint8),
        np.array([has_src]),
        np.array([has_dst]),
    )
    return str(states[0].as_py())


@pytest.mark.parametrize(
    ("src", "dst", "state"),
    [
        ("S", "", "S0"),  # no answer
        ("S", "RA", "REJ"),  # refused
        ("SA", "SA", "S1"),  # open still
        ("SA", "SFA", "S3"),  # closed by the destination alone
        ("SFA", "SA", "S2"),  # closed by the source alone
        ("SFPA", "SFPA", "SF"),
        ("SRA", "SA", "RSTO"),
        ("SA", "SRA", "RSTR"),
        ("SR", "", "RSTOS0"),
        ("SF", "", "SH"),
        ("", "SRA", "RSTRH"),
        ("", "SFA", "SHR"),
        ("A", "A", "OTH"),  # begun before the sensor looked
    ],
)
def test_states_are_those_of_zeeks_manual(src: str, dst: str, state: str):
    assert state_of("tcp", src, dst) == state


def test_other_protocols_have_no_connections():
    assert state_of("udp", "", "") == "SF"
    assert state_of("udp", "", "", has_dst=False) == "S0"
    assert state_of("udp", "", "", has_src=False) == "SHR"
    assert state_of("icmp", "", "") == "OTH"


def test_flags_of_all_spellings_are_the_same_bits():
    assert flag_bits("...AP.SF") == header_bits(0x1B) == flag_bits("FSPA")
    assert flag_bits("") == header_bits(0xE8) == 0  # PSH, URG, ECE and CWR are not told by every sensor


def test_no_flags_differ_from_no_tcp():
    bits = bits_of(pa.array(["S", None, "x", "x"]), flag_bits)
    assert flag_texts(bits, np.array([True, True, True, False])).to_pylist() == ["S", ".", ".", None]
