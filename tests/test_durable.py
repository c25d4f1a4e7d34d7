import os
from pathlib import Path

import pytest

from wirebert.durable import force_to_disk


@pytest.mark.parametrize("name", [".", "file"])
def test_file_or_folder_is_synced_and_its_descriptor_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / "file").write_text("content")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    force_to_disk(tmp_path / name)
    (descriptor,) = synced
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
