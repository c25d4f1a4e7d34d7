import hashlib
import os
from pathlib import Path

import pytest

from wirebert.errors import ArtifactError
from wirebert.inference.sealing import check_content, check_size, describe, plain_size, sealed


def test_a_file_is_described_by_its_sha256_and_size(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert describe(path) == {"sha256": hashlib.sha256(b"abc").hexdigest(), "size_bytes": 3}
    check_content(path, describe(path))
    with pytest.raises(ArtifactError, match="expected 4 bytes, found 3"):
        check_size(path, {"size_bytes": 4})


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused_unopened(tmp_path: Path, kind: str):
    path = tmp_path / "a"
    if kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(ArtifactError, match="plain file"):
        plain_size(path)
    with pytest.raises(ArtifactError, match="plain file"):
        check_content(path, {"size_bytes": 0})


def test_a_seal_depends_on_every_value():
    assert sealed({"a": 1})[:80] != sealed({"a": 2})[:80]
    assert sealed({"a": 1, "b": 2}).split(",")[0] == sealed({"b": 2, "a": 1}).split(",")[0]
