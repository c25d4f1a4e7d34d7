"""What tests of the model folder share."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def reseal() -> Callable[..., None]:
    """Changes a manifest as someone who knows how it is sealed, and describes the files as they are now."""

    def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
        path = folder / "wirebert.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for name in manifest["files"]:
            content = (folder / name).read_bytes()
            described = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
            manifest["files"][name] = described
        change(manifest)
        manifest.pop("sha256")
        compact = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        sealed = {"sha256": hashlib.sha256(compact.encode()).hexdigest(), **manifest}
        path.write_text(json.dumps(sealed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    return reseal
