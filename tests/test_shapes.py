import subprocess
import sys

import jaxtyping
import numpy as np
import pytest

from wirebert import shapes
from wirebert.metrics.confusion import ratio

NAMES = [name for name in vars(shapes) if name[0].isupper() and name != "TYPE_CHECKING"]


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_check_the_types_of_jaxtyping(name: str):
    assert getattr(shapes, name) is getattr(jaxtyping, name)


def test_a_call_with_another_element_type_fails_in_the_tests():
    with pytest.raises(jaxtyping.TypeCheckError):
        ratio(np.array([True]), np.array([False]))


def test_without_jaxtyping_an_annotation_is_the_class_of_the_array():
    program = f"""
import sys
import numpy as np
from wirebert import shapes
for name in {NAMES!r}:
    assert getattr(shapes, name)[np.ndarray, " flows"] is np.ndarray, name
assert "jaxtyping" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
