from pathlib import Path

import numpy as np
import pytest

from wirebert.errors import ArtifactError
from wirebert.inference.weights import LazyWeights, save_arrays

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.zeros(0, np.int64)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside").write_text("")
    save_arrays(ARRAYS, tmp_path / "arrays.safetensors", like=tmp_path / "beside")
    return tmp_path / "arrays.safetensors"


def test_arrays_come_back_as_they_were(file: Path):
    weights = LazyWeights(file, lambda: None)
    assert set(weights) == set(ARRAYS)
    assert len(weights) == 2
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(weights[name], array)
    with pytest.raises(KeyError):
        weights["c"]


def test_the_file_is_checked_at_the_first_access_and_once(file: Path):
    checks: list[int] = []
    weights = LazyWeights(file, lambda: checks.append(1))
    assert checks == []
    assert (weights["a"].size, weights["b"].size) == (6, 0)
    assert checks == [1]


def test_a_file_that_fails_its_check_is_never_opened(file: Path):
    def refuse() -> None:
        raise ArtifactError("changed")

    file.write_bytes(b"no safetensors")
    with pytest.raises(ArtifactError, match="changed"):
        LazyWeights(file, refuse)["a"]
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors: expected safetensors"):
        LazyWeights(file, lambda: None)["a"]


def test_a_file_has_the_permissions_of_its_neighbour(tmp_path: Path):
    (tmp_path / "beside").write_text("")
    (tmp_path / "beside").chmod(0o604)
    save_arrays(ARRAYS, tmp_path / "arrays.safetensors", like=tmp_path / "beside")
    assert (tmp_path / "arrays.safetensors").stat().st_mode & 0o777 == 0o604
