"""Windows are plain numbers that check themselves."""

import pytest

from wirebert.data.windows import ContextWindows
from wirebert.errors import SchemaError


def test_windows_come_back_from_plain_data():
    windows = ContextWindows(short_s=10, long_s=600, max_flows=5)
    assert ContextWindows.from_dict(windows.to_dict(), "schema") == windows


@pytest.mark.parametrize(
    "plain", [None, {"short_s": 60}, {"short_s": 60, "long_s": 90.5, "max_flows": 9}, {}]
)
def test_other_plain_data_is_refused(plain: object):
    with pytest.raises(SchemaError, match="here: context has short_s, long_s and max_flows"):
        ContextWindows.from_dict(plain, "here")


@pytest.mark.parametrize(("short_s", "long_s"), [(0, 60), (60, 60), (60, 86_401)])
def test_windows_out_of_order_or_range_are_refused(short_s: int, long_s: int):
    with pytest.raises(SchemaError, match="1 <= short < long <= 86400"):
        ContextWindows(short_s=short_s, long_s=long_s)


@pytest.mark.parametrize("max_flows", [0, (1 << 22) + 1])
def test_memory_is_bounded(max_flows: int):
    with pytest.raises(SchemaError, match="context max_flows must be in"):
        ContextWindows(max_flows=max_flows)
